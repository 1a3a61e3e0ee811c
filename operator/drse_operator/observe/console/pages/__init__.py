"""One module a page: which rows it shows, in which columns, and what it says as JSON and CSV."""
