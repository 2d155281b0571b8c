"""IMAP as bytes: framing, parsing and formatting. Pure: no clock, no socket, no thread, no other room's state."""
