"""The commands of `computility`, one file for each group of them."""
