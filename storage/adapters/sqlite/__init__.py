"""The storage port over SQLite: one file, one writer thread, group commit."""
