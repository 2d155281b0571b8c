"""The composition root: the mail server in one process or in several, and its command line."""

__version__ = "0.1.0"
