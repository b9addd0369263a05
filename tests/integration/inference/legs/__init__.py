"""Two legs on real engines. A package, so that its engines end with its tests."""
