"""What is kept: mailboxes, messages, the spool and the trace."""
