"""The tables of identity.db. A migration, once released, is never edited: the next change is a new one."""

from __future__ import annotations

from runtime.sqlite import Migration

FIRST = """
CREATE TABLE domain (
    id          TEXT PRIMARY KEY,
    key         TEXT NOT NULL UNIQUE,
    name        TEXT NOT NULL,
    catch_all   TEXT,
    subaddress  TEXT NOT NULL,
    created_at  REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- password_version: the account's version since which the present password holds.
CREATE TABLE account (
    id               TEXT PRIMARY KEY,
    key              TEXT NOT NULL,
    domain           TEXT NOT NULL,
    address          TEXT NOT NULL,
    display_name     TEXT NOT NULL,
    role             TEXT NOT NULL,
    quota            INTEGER,
    enabled          INTEGER NOT NULL,
    version          INTEGER NOT NULL,
    password_hash    TEXT NOT NULL,
    password_version INTEGER NOT NULL,
    created_at       REAL NOT NULL,
    removed_at       REAL
) STRICT;
CREATE UNIQUE INDEX account_key ON account (key) WHERE removed_at IS NULL;
CREATE INDEX account_domain ON account (domain, key) WHERE removed_at IS NULL;
CREATE INDEX account_administrator ON account (created_at, id)
    WHERE role = 'admin' AND enabled = 1 AND removed_at IS NULL;
CREATE INDEX account_removed ON account (removed_at) WHERE removed_at IS NOT NULL;

-- targets: a JSON array of addresses.
CREATE TABLE alias (
    key     TEXT PRIMARY KEY,
    domain  TEXT NOT NULL,
    address TEXT NOT NULL,
    targets TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_domain ON alias (domain, key);

CREATE TABLE app_password (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    hash       BLOB NOT NULL,
    created_at REAL NOT NULL,
    last_used  REAL,
    UNIQUE (account, name)
) STRICT, WITHOUT ROWID;

-- credential: what was signed in with when the family began, "password" or "app:<id>".
CREATE TABLE token_family (
    id              TEXT PRIMARY KEY,
    account         TEXT NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    credential      TEXT NOT NULL,
    access          BLOB NOT NULL UNIQUE,
    access_expires  REAL NOT NULL,
    refresh         BLOB NOT NULL UNIQUE,
    refresh_expires REAL NOT NULL,
    created_at      REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX token_family_account ON token_family (account, created_at);
CREATE INDEX token_family_expires ON token_family (refresh_expires);

-- Refresh tokens that were used: seen again, they end their family.
CREATE TABLE spent_refresh (
    hash     BLOB PRIMARY KEY,
    family   TEXT NOT NULL REFERENCES token_family (id) ON DELETE CASCADE,
    spent_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_refresh_family ON spent_refresh (family, spent_at);

-- revoked: a JSON array of credentials.
CREATE TABLE change (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    kind    TEXT NOT NULL,
    revoked TEXT NOT NULL
) STRICT;
-- The first change is 2, so that no position that a reader can stand at is 0, which asks for "from now".
INSERT INTO sqlite_sequence (name, seq) VALUES ('change', 1);

CREATE TABLE guess_counter (
    key          TEXT PRIMARY KEY,
    level        REAL NOT NULL,
    at           REAL NOT NULL,
    forgotten_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX guess_counter_forgotten ON guess_counter (forgotten_at);

CREATE TABLE usual_device (
    name    TEXT NOT NULL,
    place   TEXT NOT NULL,
    seen_at REAL NOT NULL,
    PRIMARY KEY (name, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX usual_device_seen ON usual_device (seen_at)
"""

# ends: 1e18 for a ban without an end. over_at: when a count is of no more use.
RATES_AND_BANS = """
CREATE TABLE rate_count (
    key     TEXT NOT NULL,
    window  INTEGER NOT NULL,
    slot    INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    over_at REAL NOT NULL,
    PRIMARY KEY (key, window, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX rate_count_over ON rate_count (over_at);

CREATE TABLE ban (
    id      TEXT PRIMARY KEY,
    target  TEXT NOT NULL UNIQUE,
    reason  TEXT NOT NULL,
    since   REAL NOT NULL,
    ends    REAL NOT NULL,
    made_by TEXT NOT NULL,
    hits    INTEGER NOT NULL,
    times   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ban_ends ON ban (ends);

CREATE INDEX usual_device_place ON usual_device (place, seen_at)
"""

DKIM = """
-- id: the domain's id, a space, the selector.
CREATE TABLE dkim_key (
    id          TEXT PRIMARY KEY,
    domain      TEXT NOT NULL REFERENCES domain (id) ON DELETE CASCADE,
    selector    TEXT NOT NULL,
    algorithm   TEXT NOT NULL,
    private_key TEXT NOT NULL,
    public_key  TEXT NOT NULL,
    state       TEXT NOT NULL,
    created_at  REAL NOT NULL,
    changed_at  REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX dkim_key_domain ON dkim_key (domain)
"""

# scram_keys: as `identity.scram.ScramKeys` has them. secret: what the store alone knows, by name.
SCRAM = """
ALTER TABLE account ADD COLUMN scram_iterations INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN scram_keys BLOB NOT NULL DEFAULT x'';
ALTER TABLE app_password ADD COLUMN scram_iterations INTEGER NOT NULL DEFAULT 0;
ALTER TABLE app_password ADD COLUMN scram_keys BLOB NOT NULL DEFAULT x'';
CREATE INDEX account_scram ON account (scram_iterations) WHERE enabled = 1 AND removed_at IS NULL;
CREATE INDEX app_password_scram ON app_password (scram_iterations);

CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID
"""

# mask: names of capabilities, with a space between.
MASKS = """
ALTER TABLE account ADD COLUMN mask TEXT NOT NULL DEFAULT '';
ALTER TABLE app_password ADD COLUMN mask TEXT NOT NULL DEFAULT ''
"""

INTEGRATIONS = """
-- They end with the removal of the account. place: the order of their making. key: the id of the key that sealed was
-- sealed with.
CREATE TABLE integration (
    account    TEXT NOT NULL,
    place      INTEGER NOT NULL,
    id         TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    revision   INTEGER NOT NULL,
    created_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    name       TEXT NOT NULL,
    provider   TEXT NOT NULL,
    from_email TEXT NOT NULL,
    user       TEXT NOT NULL,
    host       TEXT NOT NULL,
    port       INTEGER NOT NULL,
    security   TEXT NOT NULL,
    verify     INTEGER NOT NULL,
    key        TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    PRIMARY KEY (account, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX integration_key ON integration (key)
"""

MIGRATIONS = (
    Migration("first", FIRST),
    Migration("rates and bans", RATES_AND_BANS),
    Migration("dkim", DKIM),
    Migration("scram", SCRAM),
    Migration("capability masks", MASKS),
    Migration("integrations", INTEGRATIONS),
)
