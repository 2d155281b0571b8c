"""Listening sockets and their TLS: binding with errors that can be read, certificates that can be replaced.

Signatures (being written):

class BindError(StartError)
def bind(host: str, port: int, *, what: str) -> list[socket.socket]
    host "" means all addresses, IPv4 and IPv6 (two sockets, so that IPv4 peers are seen with their plain address);
    port 0 chooses one, the same for both.
async def listen(factory: Callable[[], asyncio.Protocol], sockets, *, tls: ssl.SSLContext | None = None, backlog=1024) -> Listening
class Listening: port: int; async def close(): stops listening (open connections live on)

class Tls:
    def __init__(cert: Path, key: Path)
    context: ssl.SSLContext      # stable object; hand it to start_tls / create_server; new connections get the newest chain
    async def start() / drain() / stop()       # watches the files
def self_signed(folder: Path, names: Sequence[str]) -> tuple[Path, Path]
"""
