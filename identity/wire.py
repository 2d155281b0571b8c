"""How the identity port crosses to another process: its codec, and which of its calls may be sent twice.

The port's writes carry no operation id, so a write whose answer was lost is not sent again: the caller is told that it
may have been done. Sent twice are the questions, and the calls that name an end which stays the same however often it
is reached. ``authenticate`` and its like are among the questions: a password that was wrong may count twice among the
guesses, which errs on the safe side.
"""

from __future__ import annotations

from typing import Final

from identity.port import Identity, Refused, Unavailable
from runtime.portcall import PortCodec

NAME: Final = "identity"
POLLS: Final = frozenset({"changes_since"})
"""Wait for news, as long as the caller says."""
QUESTIONS: Final = frozenset(
    {
        "domain_exists",
        "resolve",
        "authenticate",
        "authenticate_token",
        "scram_ready",
        "scram_start",
        "scram_finish",
        "may_send_as",
        "account",
        "still_valid",
        "changes_since",
        "verify_token",
        "domains",
        "dkim_keys",
        "accounts",
        "find_account",
        "export_accounts",
        "removed_accounts",
        "aliases",
        "app_passwords",
        "bans",
        "bans_since",
        "integrations",
        "sealed_with",
        "signed_in_from",
    }
)
IDEMPOTENT: Final = frozenset({"revoke_token", "finish_removal", "set_dkim_state", "mask_app_password"})
"""A token that was revoked stays so, an account's id is never used again, and the state of a key and the mask of an app
password are set from one place."""
REPEATABLE: Final = QUESTIONS | IDEMPOTENT
ONCE: Final = frozenset(
    {
        "issue_token",
        "refresh_token",
        "add_domain",
        "update_domain",
        "remove_domain",
        "add_dkim_key",
        "remove_dkim_key",
        "add_account",
        "import_accounts",
        "set_password",
        "update_account",
        "remove_account",
        "put_alias",
        "remove_alias",
        "add_app_password",
        "revoke_app_password",
        "add_integration",
        "change_integration",
        "set_default_integration",
        "remove_integration",
        "charge",
        "ban",
        "lift_ban",
        "hit_bans",
    }
)
"""A repeat would be refused (what was made is there), would make a second one, would take back what another has done in
between, or, for a refresh token seen twice, would end its whole family."""


def codec() -> PortCodec[Identity]:
    """Made once per use: it keeps what it has learnt of the types."""
    return PortCodec(Identity, [Refused, Unavailable])
