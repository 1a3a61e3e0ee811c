"""Charts as SVG made on the server: no style attributes, no scripts, and always a table beside them."""
