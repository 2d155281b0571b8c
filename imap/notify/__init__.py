"""NOTIFY (RFC 5465): what a client wants to hear of, what has changed, and the telling of it."""
