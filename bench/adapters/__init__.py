"""How many adapters one engine answers for with few slots, how rightly, and what it costs."""
