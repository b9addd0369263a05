"""The whole product."""
