"""The storage port of another process, over HTTP."""
