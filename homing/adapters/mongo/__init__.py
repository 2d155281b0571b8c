"""In MongoDB, beside the data of identity and storage."""
