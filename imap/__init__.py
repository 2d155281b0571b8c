"""The reading room: IMAP4rev1. Pure wire, then view and session and commands, then the connection, then the service."""
