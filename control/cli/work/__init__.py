"""Commands about tenants' own work."""
