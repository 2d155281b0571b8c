"""The data folder's lock, and the control socket through which commands reach the process that holds it.

Signatures (being written):

class FolderLock(folder: Path): acquire() raises FolderLocked; release()
class ControlServer(path: Path, ports: Mapping[str, PortCodec-served objects]): start(), drain(), stop()
def connect_port(path: Path, name: str, port: type[P], errors: ...) -> P     # each method of the Protocol, over the socket
"""
