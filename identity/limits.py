"""How much of each thing identity keeps and tells at once, whatever store is behind it."""

from __future__ import annotations

MAX_PAGE = 10_000
MAX_DISPLAY_NAME = 256
# Octets.
MAX_QUOTA = 2**62
MAX_DOMAINS = 10_000
# DKIM keys of a domain: two algorithms, and a few rotations at a time.
MAX_DKIM_KEYS = 20
MAX_APP_PASSWORDS = 50
MAX_APP_NAME = 100
# Integrations of an account, and characters and octets of one.
MAX_INTEGRATIONS = 20
MAX_INTEGRATION_TEXT = 512
MAX_INTEGRATION_NAME = 100
MAX_SEALED = 16 * 1024
# Names of capabilities in one mask, and characters of one.
MAX_MASK = 100
MAX_MASK_NAME = 64
# Token families of an account, one for each sign-in by REST: the oldest ends for one more.
MAX_FAMILIES = 100
# Spent refresh tokens that a family remembers.
MAX_SPENT = 100
# Seconds that a question for changes may wait.
MAX_WAIT = 300.0
# Changes told at once; there are more behind the last of them.
CHANGES_AT_ONCE = 1000
# Changes that are remembered for those who ask late.
HISTORY = 10_000
# Rows of an import in one commit.
ROWS_PER_COMMIT = 250
# Names that are guessed at can be made up without end: the counters that are forgotten soonest give way.
MAX_COUNTERS = 100_000
# Usual devices of an account: the one seen longest ago gives way.
MAX_DEVICES = 200
# Charges, or hits of bans, in one call.
CHARGES_AT_ONCE = 1000
MAX_RATE_KEY = 400
# Counts of rates: those of no more use go first, then those that are so soonest.
MAX_RATE_COUNTS = 500_000
