"""A cycle under way, and places for whole gangs in it."""
