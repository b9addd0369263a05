"""What a line is, what comes of it, and how a batch goes: pure."""
