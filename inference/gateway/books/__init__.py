"""What is billed: noted, kept on disk, and brought to control."""
