"""The identity port of another process, over HTTP."""
