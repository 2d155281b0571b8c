"""What of our domains' own records is seen in the DNS."""

from __future__ import annotations

from identity.dkim import Published
from identity.model import DkimKey
from mail.dnsrecords import dkim_name, same_dkim_key
from runtime.dns import NoSuchName, Resolver


def dkim_published(resolver: Resolver) -> Published:
    """Is the record of a key there? Raises runtime.dns.DnsTemporary where that cannot be known now."""

    async def published(key: DkimKey) -> bool:
        try:
            found = await resolver.txt(dkim_name(key.selector, key.domain))
        except NoSuchName:
            return False
        return any(same_dkim_key(text, key.public_key) for text in found.values)

    return published
