"""The post counter: receives mail over SMTP and submission, and hands it to storage."""
