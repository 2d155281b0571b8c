"""What is allowed: connections, quota."""
