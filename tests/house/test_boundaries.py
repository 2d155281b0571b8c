"""Which file may import which library: the rules that import-linter has no words for."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("connectors", "homing", "identity", "imap", "mail", "runtime", "smtp", "storage")

ONLY_IN = {
    "aiosmtpd": ("smtp/server.py", "smtp/handler.py", "smtp/service.py"),
    "fastapi": ("runtime/rest.py", "*/http_api.py", "*/admin_api.py"),
    "uvicorn": ("runtime/rest.py",),
    "aiohttp": ("runtime/portclient.py", "runtime/web.py"),
    "aiosmtplib": ("smtp/outbound/*.py",),
    "dns": ("runtime/dns.py",),
    "dkim": ("smtp/outbound/dkim.py",),
    "msgpack": ("runtime/portpack.py",),
    "sqlite3": ("runtime/sqlite.py", "*/adapters/sqlite/*.py", "*/adapters/sqlite.py"),
    "pymongo": ("runtime/mongo.py", "*/adapters/mongo/*.py"),
    "redis": ("connectors/tasks/adapters/redis.py",),
    "passlib": ("identity/passwords.py",),
    "argon2": ("identity/passwords.py",),
    "smtplib": ("connectors/*", "homing/cli/send.py"),
    "imapclient": ("connectors/*",),
    "msal": ("connectors/oauth/microsoft.py",),
    "typer": ("homing/cli.py", "homing/cli/*.py", "homing/__main__.py"),
}


@functools.cache
def sources() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each file, and the modules that it imports."""
    return tuple(
        (path.relative_to(ROOT).as_posix(), tuple(imported(ast.parse(path.read_text("utf-8")))))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_library_is_imported_in_its_places_alone(library: str) -> None:
    allowed = ONLY_IN[library]
    users = [name for name, modules in sources() if any(module.split(".")[0] == library for module in modules)]
    assert not [name for name in users if not any(fnmatch(name, pattern) for pattern in allowed)]


def test_adapters_are_imported_by_connect_and_themselves_alone() -> None:
    wrong = [
        (name, module)
        for name, modules in sources()
        for module in modules
        if ".adapters" in module
        and not name.endswith("/connect.py")
        and not name.startswith(module.partition(".adapters")[0].replace(".", "/") + "/adapters/")
    ]
    assert not wrong


def test_no_file_is_named_like_a_standard_module() -> None:
    import sys

    names = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    assert not [p for p in names if p.stem in sys.stdlib_module_names and not p.stem.startswith("__")]


def test_no_source_file_is_over_six_hundred_lines() -> None:
    names = [p for package in PACKAGES for p in (ROOT / package).rglob("*.py")]
    assert not [(p.name, n) for p in names if (n := len(p.read_text("utf-8").splitlines())) > 600]


def test_nothing_unfinished_is_left() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X ", "NotImplemented" + "Error")
    left = [
        (name, word)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for name in [path.relative_to(ROOT).as_posix()]
        for word in words
        if word in path.read_text("utf-8")
    ]
    assert not left
