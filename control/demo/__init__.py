"""The story that `computility up` and `computility demo` play on a bare machine."""
