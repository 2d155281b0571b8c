"""The way back out: an account's mail as files. `forms` writes them, `index` says what is in them, `export` does it."""
