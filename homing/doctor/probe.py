"""Trying ports: does something answer, and what does it say?"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence

from homing.doctor.machinechecks import Reply

SECONDS = 5.0
"""For one try, all of it."""
LINE_MAX = 1000
SHOWN_MAX = 80
"""Characters of a greeting that are told."""
TRIES_MAX = 4
"""Addresses of one host that are tried."""


async def ask(address: str, port: int, *, greets: bool = True, tls: bool = False, seconds: float = SECONDS) -> Reply:
    """Connect, and read the greeting where the service has one. tls: from the first octet, whatever certificate."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    context = _any_certificate() if tls else None
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(address, port, ssl=context, limit=LINE_MAX)
            if not greets:
                return Reply(place, "answers by TLS" if tls else "answers")
            line = await reader.readline()
            said = " ".join(line.decode("utf-8", "replace").split())
            if not said:
                return Reply(place, trouble="closed without a greeting")
            if said.startswith("220"):
                writer.write(b"QUIT\r\n")
                await writer.drain()
            elif said.startswith("* "):
                writer.write(b"a LOGOUT\r\n")
                await writer.drain()
            return Reply(place, said[:SHOWN_MAX])
    except TimeoutError:
        return Reply(place, trouble=f"no answer within {seconds:g} s")
    except (OSError, ValueError) as error:
        return Reply(place, trouble=_words(error))
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()


async def ask_any(addresses: Sequence[str], port: int, *, seconds: float = SECONDS) -> Reply | None:
    """The first of the addresses that greets; else the first trouble; None where there is no address. All at once: one
    that is silent keeps nobody waiting twice."""
    replies = await asyncio.gather(*(ask(one, port, seconds=seconds) for one in addresses[:TRIES_MAX]))
    return next((one for one in replies if not one.trouble), replies[0] if replies else None)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "refused: nothing listens there"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower() if not isinstance(error, ssl.SSLError) else f"TLS: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
