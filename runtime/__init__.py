"""What any long-running process needs: settings, logs, databases, listeners, a life cycle. It knows nothing of mail."""
