"""Marionette, by which Mozilla's programs are driven: scripts run in the program itself, over a socket of its own."""

from __future__ import annotations

import json
import socket
from typing import Any


class ScriptFailed(Exception):
    """A script threw; the text is what it said."""


class Marionette:
    """One session. Commands are JSON lists behind their length: [0, number, name, arguments] and [1, number, error,
    value]."""

    def __init__(self, port: int, seconds: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), seconds)
        self._number = 0
        self._read()  # it says first who it is
        self.call("WebDriver:NewSession", {"acceptInsecureCerts": False})
        self.call("WebDriver:SetTimeouts", {"script": int(seconds * 1000)})
        self.call("Marionette:SetContext", {"value": "chrome"})

    def script(self, text: str, *arguments: Any) -> Any:
        """The value of an asynchronous function's body. Raises ScriptFailed."""
        body = f"""const done = arguments[arguments.length - 1];
            (async (...given) => {{ {text} }})(...[...arguments].slice(0, -1)).then(
                value => done({{ value }}), error => done({{ error: `${{error}} ${{error.stack}}` }}));"""
        told = self.call("WebDriver:ExecuteAsyncScript", {"script": body, "args": list(arguments)})["value"]
        if "error" in told:
            raise ScriptFailed(told["error"])
        return told.get("value")

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """One command's value. Raises ScriptFailed."""
        self._number += 1
        text = json.dumps([0, self._number, name, arguments]).encode()
        self._socket.sendall(b"%d:%s" % (len(text), text))
        _, number, error, value = self._read()
        assert number == self._number
        if error is not None:
            raise ScriptFailed(f"{error['error']}: {error['message']}")
        return value

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._octets(1)
        return json.loads(self._octets(int(length[:-1])))

    def _octets(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            part = self._socket.recv(count - len(octets))
            if not part:
                raise ScriptFailed("the program has ended")
            octets += part
        return octets
