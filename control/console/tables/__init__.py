"""Lists and figures as tables, and what is shown of them."""
