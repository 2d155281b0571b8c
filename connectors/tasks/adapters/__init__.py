"""Where tasks can be kept."""
