"""Octets into commands (the driver is imap.connection; the session does not see this)."""
