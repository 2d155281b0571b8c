"""The adapters of the storage port, one folder a kind of store."""
