"""What a message is: pure functions from bytes to values and back, shared by all rooms."""
