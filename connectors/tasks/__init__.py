"""The durable queue of the asynchronous sending API: a port, its adapters, and the workers that empty it."""
