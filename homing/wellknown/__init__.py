"""What others fetch from well-known places (RFC 8615)."""
