"""Who may come and how much: rates and bans. The policies are pure; `gate` is what a door asks, in its own process."""
