"""Servers of the tests on loopback, in threads: what they refuse, when they fall silent and when they close is told."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

DEADLINE = 60.0


class Gone(Exception):
    """The client closed, or the script closes."""


class Listening:
    """Accepts on a loopback port and serves each connection in a thread; ended by the `with` block."""

    def __init__(self, tls: ssl.SSLContext | None = None, implicit: bool = False) -> None:
        self.tls = tls
        self.implicit = implicit
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads:
            thread.join(DEADLINE)

    def _spawn(self, what: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=what, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._spawn(self._one, connection)

    def _one(self, connection: socket.socket) -> None:
        connection.settimeout(DEADLINE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(connection)
        line = Line(connection, self._open.append)
        try:
            if self.implicit and self.tls:
                line.start_tls(self.tls)
            self.serve(line)
        except (OSError, Gone):
            pass
        finally:
            line.close()

    def serve(self, line: Line) -> None:
        raise AssertionError("each server says how it serves")


class Line:
    """A connection, read by lines."""

    def __init__(self, connection: socket.socket, opened: Callable[[socket.socket], None]) -> None:
        self._opened = opened
        self.socket = connection
        self.file = connection.makefile("rb")

    def read(self, *, whole: bool = False) -> bytes:
        """A line; whole: with its end."""
        data = self.file.readline(1 << 20)
        if not data:
            raise Gone
        return data if whole else data.rstrip(b"\r\n")

    def write(self, text: str | bytes) -> None:
        self.socket.sendall((text.encode() if isinstance(text, str) else text) + b"\r\n")

    def start_tls(self, tls: ssl.SSLContext) -> None:
        self.file.close()
        self.socket = tls.wrap_socket(self.socket, server_side=True)
        self._opened(self.socket)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def wait_for_the_end(self) -> None:
        """Say nothing until the client closes."""
        while self.socket.recv(65536):
            pass
        raise Gone


class Scripted(Listening):
    """`at` has, for a stage, what is done there instead, each once: "close", "silent" or a reply."""

    def __init__(self, tls: ssl.SSLContext | None = None, implicit: bool = False, **at: list[str]) -> None:
        super().__init__(tls, implicit)
        self.at = at
        self.users = {"alice@test.example": "correct horse"}
        self.tokens: set[str] = set()
        self.mechanisms = ["PLAIN", "LOGIN", "XOAUTH2"]
        self.commands: list[str] = []
        self.signed_in: list[str] = []
        self.repeats_secrets = False

    def instead(self, line: Line, stage: str) -> bool:
        """Whether something else was done at this stage."""
        left = self.at.get(stage)
        if not left:
            return False
        what = left.pop(0)
        if what == "close":
            raise Gone
        if what == "silent":
            line.wait_for_the_end()
        line.write(what)
        return True

    def knows(self, mechanism: str, answer: bytes) -> str | None:
        """The user that an answer of PLAIN or XOAUTH2 proves."""
        text = answer.decode("utf-8")
        if mechanism == "PLAIN":
            _, user, password = text.split("\0")
            return user if self.users.get(user) == password else None
        head, bearer, *_ = text.split("\x01")
        token = bearer.removeprefix("auth=Bearer ")
        return head.removeprefix("user=") if token in self.tokens else None


@dataclass
class Mail:
    sender: str
    options: list[str]
    recipients: list[str] = field(default_factory=list)
    raw: bytes = b""


class SmtpServer(Scripted):
    """Stages: connect, ehlo, starttls, auth, mail, rcpt, data, body (in the middle of the message), end, noop."""

    def __init__(self, tls: ssl.SSLContext | None = None, implicit: bool = False, **at: list[str]) -> None:
        super().__init__(tls, implicit, **at)
        self.extensions = ["SIZE 50000000", "8BITMIME", "SMTPUTF8"]
        self.refuse: dict[str, str] = {}
        self.mails: list[Mail] = []

    def serve(self, line: Line) -> None:
        if not self.instead(line, "connect"):
            line.write("220 test.example ESMTP")
        secure = self.implicit
        mail: Mail | None = None
        while True:
            command = line.read().decode("utf-8", "replace")
            self.commands.append(command)
            verb = command.split(" ")[0].upper()
            if verb in ("EHLO", "HELO"):
                if not self.instead(line, "ehlo"):
                    words = ["test.example", *self.extensions]
                    words += ["STARTTLS"] if self.tls and not secure else []
                    words += ["AUTH " + " ".join(self.mechanisms)] if self.mechanisms else []
                    for at, word in enumerate(words):
                        line.write(f"250{' ' if at == len(words) - 1 else '-'}{word}")
            elif verb == "STARTTLS":
                if not self.instead(line, "starttls"):
                    line.write("220 go ahead")
                    assert self.tls is not None
                    line.start_tls(self.tls)
                    secure = True
            elif verb == "AUTH":
                if not self.instead(line, "auth"):
                    self._auth(line, command)
            elif verb == "MAIL":
                sender, *options = command[len("MAIL FROM:<") :].split(" ")
                mail = Mail(sender.removesuffix(">"), options)
                if not self.instead(line, "mail"):
                    line.write(self.refuse.get(mail.sender, "250 ok"))
            elif verb == "RCPT":
                assert mail is not None
                recipient = command[len("RCPT TO:<") : -1]
                if not self.instead(line, "rcpt"):
                    line.write(self.refuse.get(recipient, "250 ok"))
                    if recipient not in self.refuse:
                        mail.recipients.append(recipient)
            elif verb == "DATA":
                assert mail is not None
                if not self.instead(line, "data"):
                    line.write("354 go on")
                    self._body(line, mail)
            elif verb == "QUIT":
                line.write("221 bye")
                return
            elif not self.instead(line, verb.lower()):
                line.write("250 ok")

    def _body(self, line: Line, mail: Mail) -> None:
        lines: list[bytes] = []
        begins = True  # Only CRLF ends a line, and only there a dot is one of the wire's.
        while (data := line.read(whole=True)) != b".\r\n" or not begins:
            lines.append(data[1:] if begins and data.startswith(b".") else data)
            begins = data.endswith(b"\r\n")
            if len(lines) == 3 and self.at.get("body"):
                # a reset, so that the client's next write fails
                line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.instead(line, "body")
        mail.raw = b"".join(lines)
        if not self.instead(line, "end"):
            self.mails.append(mail)
            line.write("250 2.0.0 queued as 1")

    def _auth(self, line: Line, command: str) -> None:
        _, mechanism, *rest = command.split(" ")
        if mechanism == "LOGIN":
            line.write("334 " + base64.b64encode(b"Username:").decode())
            user = base64.b64decode(line.read()).decode()
            line.write("334 " + base64.b64encode(b"Password:").decode())
            password = base64.b64decode(line.read()).decode()
            found = user if self.users.get(user) == password else None
        elif mechanism == "CRAM-MD5":
            import hmac

            line.write("334 " + base64.b64encode(b"<1@test>").decode())
            user, digest = base64.b64decode(line.read()).decode().rsplit(" ", 1)
            right = hmac.new(self.users.get(user, "").encode(), b"<1@test>", "md5").hexdigest()
            found = user if digest == right else None
        else:
            if not rest:
                line.write("334 ")
                rest = [line.read().decode()]
            found = self.knows(mechanism, base64.b64decode(rest[0]))
            if found is None and mechanism == "XOAUTH2":
                line.write("334 " + base64.b64encode(b'{"status":"400"}').decode())
                assert line.read() == b""
        if found is None:
            said = rest[0] if self.repeats_secrets and rest else ""
            if said:
                said += " " + base64.b64decode(said).decode().replace("\0", " ").replace("\x01", " ")
            line.write("535 5.7.8 no such luck " + said)
        else:
            self.signed_in.append(found)
            line.write("235 2.7.0 welcome")


@dataclass
class Tokens:
    """What the token server gave and refuses."""

    given: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    revoked: set[str] = field(default_factory=set)
    account: str = "alice@test.example"
    forms: list[dict[str, str]] = field(default_factory=list)
    refuse: str = ""
    status: int = 0
    lives: Any = 3600
    refresh_tokens: set[str] = field(default_factory=lambda: {"refresh-1"})
    tenants: set[str] = field(default_factory=lambda: {"tenant-1"})
    secrets: dict[str, str] = field(default_factory=lambda: {"client-1": "client-secret-1"})
    raw: bytes | None = None
    redirect: str = ""
    on_token: Callable[[str], None] = lambda _token: None


class TokenServer:
    """Plays Google's token endpoint (/token), Microsoft's (/{tenant}/…) and the one that servers ask (/tokeninfo)."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.state = state = Tokens()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Nothing is written."""

            def do_GET(self) -> None:
                state.asked.append(self.path)
                if self.path.startswith("/tokeninfo?access_token="):
                    token = self.path.partition("=")[2]
                    good = token in state.given and token not in state.revoked
                    self.answer(200, {"email": state.account, "active": "yes" if good else "no"})
                    return
                tenant = self.path.split("/")[1]
                host = f"https://{self.headers['Host']}"
                if tenant not in state.tenants:
                    self.answer(400, {"error": "invalid_tenant", "error_description": f"Tenant '{tenant}' not found."})
                    return
                self.answer(
                    200,
                    {
                        "token_endpoint": f"{host}/{tenant}/oauth2/v2.0/token",
                        "authorization_endpoint": f"{host}/{tenant}/oauth2/v2.0/authorize",
                        "issuer": f"{host}/{tenant}/v2.0",
                    },
                )

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(urllib.parse.parse_qsl(text))
                basic = self.headers.get("Authorization", "")
                if basic.startswith("Basic "):
                    form["client_id"], form["client_secret"] = base64.b64decode(basic[6:]).decode().split(":")
                state.forms.append(form)
                self.answer(*self.token(form))

            def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
                if state.status:
                    return state.status, {}
                if state.refuse:
                    return 400, {"error": state.refuse, "error_description": "Token has been expired or revoked."}
                if state.secrets.get(form["client_id"]) != form.get("client_secret"):
                    said = f"The secret {form.get('client_secret')} is wrong."
                    return 401, {"error": "invalid_client", "error_description": said}
                kind = form["grant_type"]
                more: dict[str, Any] = {}
                if kind == "refresh_token" and form["refresh_token"] not in state.refresh_tokens:
                    return 400, {"error": "invalid_grant", "error_description": "Bad Request"}
                if kind == "authorization_code":
                    if form["code"] != "code-1":
                        return 400, {"error": "invalid_grant", "error_description": "Malformed auth code."}
                    more = {"refresh_token": "refresh-1", "scope": "https://mail.google.com/"}
                token = f"access-{len(state.given) + 1}"
                state.given.append(token)
                state.on_token(token)
                return 200, {"access_token": token, "expires_in": state.lives, "token_type": "Bearer", **more}

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode() if state.raw is None else state.raw
                self.send_response(302 if state.redirect else status)
                if state.redirect:
                    self.send_header("Location", state.redirect)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def authority(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def tokeninfo(self) -> str:
        """What a mail server asks whether a token is good; the token comes behind it."""
        return f"{self.authority}/tokeninfo?access_token="

    @property
    def token_url(self) -> str:
        return f"{self.authority}/token"

    def __enter__(self) -> TokenServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)
