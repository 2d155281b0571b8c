"""The composition root: the whole mail server in one process, and its command line."""

__version__ = "0.1.0"
