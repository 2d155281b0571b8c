"""Behind the identity service."""
