"""Names of this network: a server that the settings name by a name which the DNS may not know."""

from __future__ import annotations

import asyncio
import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from homing.keepers import open_resolver
from homing.settings import Settings
from runtime.dns import Answer, DnsTemporary, NoSuchName, Resolver

LOCALHOST = "localhost"
THREADS: Final = 4
"""Questions to the system at the same time. It has its own patience with resolvers that are silent, and threads that
wait for it are nobody else's."""


class SystemHosts(Resolver):
    """Asks the system for addresses, as every mail program does: so /etc/hosts and the names of a container network
    count. seconds: how long an answer is waited for."""

    def __init__(self, seconds: float) -> None:
        super().__init__(timeout=seconds)
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(THREADS, "hosts")

    async def addresses(self, host: str, *, v6: bool = True, v4: bool = True) -> Answer[str]:
        family = socket.AF_UNSPEC if v6 and v4 else socket.AF_INET6 if v6 else socket.AF_INET
        try:
            async with asyncio.timeout(self._seconds):
                found = await asyncio.get_running_loop().run_in_executor(
                    self._threads, functools.partial(socket.getaddrinfo, host, None, family, socket.SOCK_STREAM)
                )
        except TimeoutError as error:
            raise DnsTemporary(f"{host}: no answer within {self._seconds:.0f} s") from error
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
                raise NoSuchName(f"{host}: {error.strerror}") from error
            raise DnsTemporary(f"{host}: {error.strerror}") from error
        except (UnicodeError, OSError) as error:
            raise NoSuchName(f"{host}: {error}") from error
        return Answer(tuple(dict.fromkeys(str(one[4][0]) for one in found)), False, 0.0, host)


def open_hosts(settings: Settings, host: str) -> Resolver:
    """Who is asked about this host: the resolvers of the settings where they name any, else the system."""
    # RFC 6761 §6.3: nobody else is asked about this one.
    if settings.dns.servers and host.lower() != LOCALHOST:
        return open_resolver(settings)
    return SystemHosts(settings.dns.timeout)
