"""A Dovecot of the test's own: maildir, loopback, one account for any password; from Debian's package."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import DEVNULL

from tests.live import PASSWORD, free_ports, until


@contextmanager
def dovecot(program: str, doveadm: str, folder: Path) -> Iterator[int]:
    """Its IMAP port; the process is ended by the pid in its own pid file.

    folder: not below pytest's own, which the next pytest that begins closes to other users: its mail is another's.
    """
    user = pwd.getpwnam("mail")
    home = folder / "home"
    for path in (folder, home):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    parent = folder
    while parent != parent.parent:
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
        parent = parent.parent
    os.chown(home, user.pw_uid, user.pw_gid)
    (port,) = free_ports(1)
    config = folder / "dovecot.conf"
    config.write_text(f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
first_valid_uid = 1
mail_location = maildir:{home}/%n
mail_plugins = acl
plugin {{
  acl = vfile
}}
mail_attribute_dict = file:{home}/%n.attributes
protocol imap {{
  imap_metadata = yes
  mail_plugins = acl imap_acl
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
passdb {{
  driver = static
  args = password={PASSWORD.replace(" ", "_")}
}}
userdb {{
  driver = static
  args = uid={user.pw_uid} gid={user.pw_gid} home={home}
}}
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
    # its daemon would keep a pipe open for ever
    subprocess.run([program, "-c", str(config)], check=True, timeout=20, stdout=DEVNULL, stderr=DEVNULL)
    try:

        def answers() -> bool:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as s:
                    return s.recv(4) == b"* OK"
            except OSError:
                return False

        until(answers, 15, "Dovecot's greeting")
        yield port
    finally:
        subprocess.run([doveadm, "-c", str(config), "stop"], timeout=20, check=True)
