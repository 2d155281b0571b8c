"""The documents say what the code does: the generated pages are fresh, and what the README names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

from homing.cli import app

ROOT = Path(__file__).resolve().parents[2]


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    named = re.findall(r"^homing ([a-z]+)(?: ([a-z]+))?", text, re.M)
    assert named
    top = get_command(app)
    for first, second in named:
        command = top.commands[first]
        if second and hasattr(command, "commands"):
            assert second in command.commands, f"{first} {second}"


def test_every_make_target_of_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in ("README.md", "HACKING.md"):
        named = set(re.findall(r"^make ([a-z-]+)", (ROOT / page).read_text("utf-8"), re.M))
        assert named <= targets, page


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "HACKING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
