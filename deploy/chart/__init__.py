"""What the chart promises about its values: the schema that helm checks them by, and the table that
explains them."""
