"""Accounts elsewhere through which accounts of ours send: `POST /smtp/send-email`."""
