"""How fast a model is on a device, what serves a load, and what that costs."""
