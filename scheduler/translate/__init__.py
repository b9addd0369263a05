"""Between the store's resources and the core's values, both ways."""
