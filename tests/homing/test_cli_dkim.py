"""`homing domain dkim`, with no server running."""

from __future__ import annotations

import json
from collections.abc import Callable

from click.testing import Result

Homing = Callable[..., Result]


def test_a_domain_begins_with_keys_and_their_records(homing: Homing) -> None:
    out = homing("domain", "add", "Example.org").stdout
    lines = [line for line in out.splitlines() if "._domainkey." in line]
    assert len(lines) == 2
    assert all('._domainkey.example.org. 3600 IN TXT "v=DKIM1; k=' in line for line in lines)
    keys = json.loads(homing("domain", "dkim", "list", "example.org", "--json").stdout)
    assert sorted((key["algorithm"], key["state"]) for key in keys) == [("ed25519", "active"), ("rsa", "active")]
    assert not any("PRIVATE" in json.dumps(key) for key in keys)
    assert homing("domain", "dkim", "records", "example.org").stdout.splitlines() == lines
    assert keys[0]["selector"] in homing("domain", "dkim", "list", "example.org").stdout


def test_a_rotation_from_the_command_line(homing: Homing) -> None:
    homing("domain", "add", "example.org")
    new = json.loads(homing("domain", "dkim", "rotate", "example.org", "--json").stdout)
    assert {key["state"] for key in new} == {"published"}
    assert "under way" in homing("domain", "dkim", "rotate", "example.org", status=1).stderr
    homing("domain", "dkim", "remove", "example.org", new[0]["selector"])
    assert "no such DKIM key" in homing("domain", "dkim", "remove", "example.org", new[0]["selector"], status=1).stderr
    homing("domain", "dkim", "retire", "example.org", new[1]["selector"])
    keys = json.loads(homing("domain", "dkim", "list", "example.org", "--json").stdout)
    assert sorted(key["state"] for key in keys) == ["active", "active", "retired"]


def test_a_domain_without_keys_gets_its_first(homing: Homing) -> None:
    homing("domain", "add", "example.org")
    for key in json.loads(homing("domain", "dkim", "list", "example.org", "--json").stdout):
        homing("domain", "dkim", "remove", "example.org", key["selector"])
    assert "goes unsigned" in homing("domain", "dkim", "list", "example.org").stdout
    first = json.loads(homing("domain", "dkim", "rotate", "example.org", "--json").stdout)
    assert {key["state"] for key in first} == {"active"}
    assert "no such domain" in homing("domain", "dkim", "rotate", "none.example", status=1).stderr
