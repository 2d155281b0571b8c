"""`.env` files: what their lines mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.dotenv import SIZE_MAX, read_dotenv
from runtime.lifecycle import StartError


def read(folder: Path, text: str) -> dict[str, str]:
    (folder / ".env").write_text(text, "utf-8")
    return read_dotenv(folder / ".env")


def test_lines(tmp_path: Path) -> None:
    text = """\ufeff# a comment

SMTP_HOST=smtp.example.net
  SMTP_PORT = 587   # STARTTLS
export SMTP_USER='me # not you'
SMTP_PASS="p#ss word=="   # said
EMPTY=
NONE=   # nothing
HASH=a#b
"""
    assert read(tmp_path, text) == {
        "SMTP_HOST": "smtp.example.net",
        "SMTP_PORT": "587",
        "SMTP_USER": "me # not you",
        "SMTP_PASS": "p#ss word==",
        "EMPTY": "",
        "NONE": "",
        "HASH": "a#b",
    }


def test_there_need_not_be_one(tmp_path: Path) -> None:
    assert read_dotenv(tmp_path / ".env") == {}


@pytest.mark.parametrize("line", ["secret", "=secret", "1X=secret", "A B=secret"])
def test_what_is_no_line_is_named_without_what_it_says(tmp_path: Path, line: str) -> None:
    with pytest.raises(StartError, match="line 2") as refused:
        read(tmp_path, f"A=b\n{line}\n")
    assert "secret" not in str(refused.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff")
    with pytest.raises(StartError, match="UTF-8"):
        read_dotenv(tmp_path / ".env")
    with pytest.raises(StartError, match="longer"):
        read(tmp_path, "A=" + "x" * SIZE_MAX)
