"""Commands about who asks, what they keep, and several Computilities."""
