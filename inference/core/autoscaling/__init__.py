"""How many engines there should be, from what they and gateways tell. Pure."""
