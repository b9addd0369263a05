"""Commands that change what is there, or wait until it has changed."""
