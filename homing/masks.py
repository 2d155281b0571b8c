"""Names that masks of capabilities can have: identity keeps a mask, and only the door that it is for knows them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache


def unknown(names: Iterable[str]) -> str | None:
    """About the first of these names that masks nothing, misspelt perhaps; None where there is none."""
    for name in names:
        if name.upper() not in _known():
            return f"{name!r} is no capability that can be masked. These can: {' '.join(sorted(_known()))}"
    return None


@cache
def _known() -> frozenset[str]:
    # Most commands, and a service of identity until somebody masks, need nothing of IMAP.
    from imap.commands import table
    from imap.masking import maskable

    return maskable(entry.capability for entry in table().values() if entry.capability)
