"""The identity port over a store: one folder a store, imported by `identity.connect` alone."""
