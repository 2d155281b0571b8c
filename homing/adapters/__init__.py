"""Where saved settings, and whose turn the upkeep is, are kept. Imported by `homing.connect` alone."""
