"""Bringing an account's mail home from elsewhere: `bring` does it, `ledger` remembers it, `check` compares."""
