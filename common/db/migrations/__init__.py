"""The one history of the tables of all packages."""
