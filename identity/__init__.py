"""Who is who: domains, accounts, aliases, credentials, tokens."""
