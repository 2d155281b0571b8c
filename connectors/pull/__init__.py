"""Mail as it is kept elsewhere, read to be brought home: over IMAP, from a Maildir, from mbox files.

`connectors.pull.places.open_source` makes a source of a place's name; `connectors.pull.source` says what one gives.
"""
