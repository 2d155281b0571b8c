"""How much may be kept: GETQUOTA GETQUOTAROOT SETQUOTA (RFC 9208 §4.1).

A quota root is an account, and called by its address. One without a limit has none.
"""

from __future__ import annotations

from identity.model import Account, Role
from identity.port import Refused as IdentityRefused
from imap.errors import No
from imap.session import SIGNED_IN, Entry, News, Reply, Session
from imap.wire import writer
from imap.wire.forms import GetQuota, OnMailbox, SetQuota
from mail.flags import DELETED
from storage.model import HasFlags, Mailbox, Ranges, Rights, Want
from storage.ranges import after

UNIT = 1024
"""Octets that STORAGE counts in (RFC 9208 §5.1)."""
QUOTA_MAX = 2**63 - 1
"""Octets that can be said to identity, which may allow less."""
ROWS_PAGE = 4096
"""Messages whose sizes are read in one go."""


async def get_quota(session: Session, form: GetQuota) -> Reply:
    """RFC 9208 §4.1.1."""
    account = await _root(session, form.root)
    if account.quota is None:
        raise No("There is no such quota root")
    await _tell(session, account)
    return Reply("Done")


async def get_quota_root(session: Session, form: OnMailbox) -> Reply:
    """The root of a mailbox, and what it says: RFC 9208 §4.1.2."""
    place = await session.places.of(session.account, form.mailbox)
    # RFC 9208 §4.1.2: the mailbox need not be there; another's has to be, and to be one that may be read
    if place.actor is not None:
        await session.find(form.mailbox, Rights.READ)
    account = await session.house.identity.account(place.account)
    roots = [] if account.quota is None else [account.address]
    session.out.write(writer.quota_root(form.mailbox, roots, session.utf8))
    if roots:
        await _tell(session, account)
    return Reply("Done")


async def set_quota(session: Session, form: SetQuota) -> Reply:
    """RFC 9208 §4.1.3: limits that are not named are taken away."""
    if session.principal.role is not Role.ADMIN:
        raise No("Administrators set quotas", "NOPERM")
    limits = dict(form.limits)
    storage = limits.pop("STORAGE", None)
    if limits:
        raise No("STORAGE is all that is limited here")
    account = await _root(session, form.root)
    quota = None if storage is None else storage * UNIT
    if quota is not None and quota > QUOTA_MAX:
        raise No("That is more than can be counted", "CANNOT")
    account = await session.house.identity.update_account(account.id, quota=quota, no_quota=quota is None)
    session.quotas.learn(account.id, account.quota)
    if account.quota is not None:
        await _tell(session, account)
    return Reply("Done")


async def _root(session: Session, name: str) -> Account:
    """The account of that address; of others only who may know of it (RFC 9208 §8)."""
    refused = No("There is no such quota root")
    try:
        account = await session.house.identity.find_account(name)
    except IdentityRefused:
        raise refused from None
    if account.id == session.account or session.principal.role is Role.ADMIN:
        return account
    if any(mailbox.ref.account == account.id for mailbox in await session.storage.shared_with(session.account)):
        return account
    raise refused


async def _tell(session: Session, account: Account) -> None:
    assert account.quota is not None
    used = (await session.storage.usage(account.id)).size
    resources = [("STORAGE", _units(used), _units(account.quota))]
    session.out.write(writer.quota(account.address, resources))


def _units(octets: int) -> int:
    # up for both, so that what is not over in octets is not so in units
    return -(-octets // UNIT)


async def deleted_storage(session: Session, mailbox: Mailbox) -> int:
    """Octets of the messages that EXPUNGE would remove (RFC 9208 §4.1.4)."""
    if not mailbox.deleted or mailbox.deleted == mailbox.messages:
        return mailbox.size if mailbox.deleted else 0
    left: Ranges = (await session.storage.search(mailbox.ref, HasFlags(DELETED))).uids
    size = 0
    while left:
        page = await session.storage.columns(mailbox.ref, left, Want.SIZE, ROWS_PAGE)
        size += sum(page.sizes)
        left = after(left, page.uids[-1]) if page.more else ()
        await session.out.drain()
    return size


_N = News.IF_ANY

ENTRIES = (
    Entry("GETQUOTA", SIGNED_IN, GetQuota, get_quota, _N, may_expunge=True, capability="QUOTA"),
    Entry("GETQUOTAROOT", SIGNED_IN, OnMailbox, get_quota_root, _N, may_expunge=True, capability="QUOTA"),
    # RFC 9208 §3: told to those whom it serves
    Entry("SETQUOTA", SIGNED_IN, SetQuota, set_quota, _N, may_expunge=True, capability="QUOTASET"),
)
