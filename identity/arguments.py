"""What the arguments of the port's calls must be, whatever store is behind it: checked before the store is asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from identity.limits import (
    MAX_APP_NAME,
    MAX_APP_PASSWORDS,
    MAX_DISPLAY_NAME,
    MAX_MASK,
    MAX_MASK_NAME,
    MAX_PAGE,
    MAX_QUOTA,
)
from identity.model import Alias
from identity.names import BadName, Name, domain_key, parse, parse_local
from identity.port import Reason, Refused
from identity.resolve import MAX_TARGETS

# What may stand between a name and its detail: the specials of an atom (RFC 5322 §3.2.3).
SEPARATORS = "!#$%&'*+-/=?^_`{|}~."


# RFC 3501 §9: a capability is an atom, and those that there are have no other characters.
_CAPABILITY = re.compile(rf"[A-Z0-9][A-Z0-9=+._-]{{0,{MAX_MASK_NAME - 1}}}")


_JOINERS = "\u200c\u200d"
"""Not seen, and a part of words in Persian and in Indian scripts."""


def address_name(address: str) -> Name:
    """An address of ours or of others. Raises Refused BAD_ADDRESS."""
    try:
        return parse(address)
    except BadName as error:
        raise Refused(Reason.BAD_ADDRESS, str(error)) from None


def new_name(address: str) -> Name:
    """An address that becomes one of ours. Raises Refused BAD_ADDRESS, also where people would not see what it is."""
    name = address_name(address)
    # RFC 8265 §3.3.1 allows none of these in a name either: an override of the direction shows another one.
    if not all(char.isprintable() or char in _JOINERS for char in name.local):
        raise Refused(Reason.BAD_ADDRESS, "the local part has characters that are not seen")
    return name


def domain_name(domain: str) -> str:
    """The key of a domain. Raises Refused BAD_ADDRESS."""
    try:
        return domain_key(domain)
    except BadName as error:
        raise Refused(Reason.BAD_ADDRESS, str(error)) from None


def dkim_selector(selector: str) -> str:
    """A selector that a key may have. Raises Refused NO_SUCH_KEY for any other: none was ever made so."""
    # RFC 6376 §3.1
    if not selector.isascii() or not selector.isalnum() or len(selector) > 63:
        raise Refused(Reason.NO_SUCH_KEY)
    return selector


def login_key(name: str, default_domain: str) -> str | None:
    """The key of a name to sign in with: an address, or a local part of the default domain. None: nobody's name."""
    try:
        if "@" in name:
            return parse(name).key
        parse_local(name)
        return parse(f"{name}@{default_domain}").key
    except BadName:
        return None


def page(limit: int) -> int:
    """How many rows one call gives. Raises Refused LIMIT."""
    if not 1 <= limit <= MAX_PAGE:
        raise Refused(Reason.LIMIT, f"a page has 1 to {MAX_PAGE} rows")
    return limit


def after_key(after: str) -> str:
    """The key of the address that a page begins after, "" for the first. Raises Refused BAD_ADDRESS."""
    return address_name(after).key if after else ""


def check_quota(quota: int | None) -> None:
    """Raises Refused LIMIT."""
    if quota is not None and not 0 <= quota <= MAX_QUOTA:
        raise Refused(Reason.LIMIT, f"a quota is 0 to {MAX_QUOTA} octets")


def check_display_name(name: str | None) -> None:
    """Raises Refused LIMIT."""
    if name is not None and (len(name) > MAX_DISPLAY_NAME or not (name.isprintable() or not name)):
        raise Refused(Reason.LIMIT, f"a display name has at most {MAX_DISPLAY_NAME} printable characters")


def check_catch_all(catch_all: str | None) -> None:
    """Raises Refused BAD_ADDRESS."""
    if catch_all is not None:
        address_name(catch_all)


def check_subaddress(subaddress: str) -> None:
    """Raises Refused BAD_ADDRESS."""
    if len(subaddress) > 1 or subaddress not in SEPARATORS:
        raise Refused(Reason.BAD_ADDRESS, f"subaddress is one of {SEPARATORS} or empty")


def alias_targets(alias: Alias) -> tuple[str, ...]:
    """Each target once, the first way it is written. Raises Refused LIMIT, BAD_ADDRESS."""
    if len(alias.targets) > MAX_TARGETS:
        raise Refused(Reason.LIMIT, f"an alias has at most {MAX_TARGETS} targets")
    targets = {address_name(target).key: target for target in reversed(alias.targets)}
    if not targets:
        raise Refused(Reason.BAD_ADDRESS, "an alias needs a target")
    return tuple(reversed(targets.values()))


def mask_names(names: Iterable[str]) -> tuple[str, ...]:
    """The names of a mask in capitals, each once, in order. Raises Refused LIMIT."""
    found = tuple(sorted({name.upper() for name in names}))
    if len(found) > MAX_MASK:
        raise Refused(Reason.LIMIT, f"a mask has at most {MAX_MASK} names")
    for name in found:
        if not _CAPABILITY.fullmatch(name):
            raise Refused(Reason.LIMIT, f"{name[:MAX_MASK_NAME]!r} is not the name of a capability")
    return found


def joined_mask(*masks: Iterable[str]) -> tuple[str, ...]:
    """What all of these masks take away together."""
    return tuple(sorted({name for mask in masks for name in mask}))


def check_app_name(name: str) -> None:
    """Raises Refused LIMIT."""
    if not name or len(name) > MAX_APP_NAME or not name.isprintable():
        raise Refused(Reason.LIMIT, f"the name of an app password has 1 to {MAX_APP_NAME} printable characters")


def check_app_room(name: str, names: set[str]) -> None:
    """May an app password of this name come beside those? Raises Refused ALREADY_EXISTS, LIMIT."""
    if name in names:
        raise Refused(Reason.ALREADY_EXISTS, "an app password has the name")
    if len(names) >= MAX_APP_PASSWORDS:
        raise Refused(Reason.LIMIT, f"an account has at most {MAX_APP_PASSWORDS} app passwords")
