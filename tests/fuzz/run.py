"""Fuzz one target with atheris (libFuzzer for Python), beginning with the corpus that is kept here.

    python -m tests.fuzz.run parser --seconds 60      look for what breaks a promise
    python -m tests.fuzz.run parser --merge           put what reached new code into tests/fuzz/corpus/parser

What is found on the way stays in homing-fuzz/parser of the temporary folder until it is merged.

Needs `pip install atheris`, which is not among the development requirements: it has wheels for Linux alone. A find is
written to crash-… in the current folder; once mended, it goes into the corpus, which the tests play.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tests.fuzz.targets import TARGETS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TRANSCRIPTS = HERE.parent / "transcripts" / "imap"
LENGTH = 4096
SECONDS_EACH = 2
"""A single input that takes longer is a find: all work is linear, and LENGTH octets are little."""


def seeds(target: str, folder: Path) -> None:
    """First inputs out of the transcripts: what clients say to the parser and framer, sets, headers."""
    dialogues = [path.read_text("utf-8").splitlines() for path in sorted(TRANSCRIPTS.glob("*.txt"))]
    said = [line[3:].encode() for dialogue in dialogues for line in dialogue if line.startswith("C: ")]
    match target:
        case "framer":
            texts = [b"\x07" + b"\r\n".join(said[at : at + 6]) + b"\r\n" for at in range(0, len(said), 6)]
        case "numset":
            texts = [found for line in said for found in re.findall(rb"[\d*][\d*:,]*", line)]
        case "mime" | "header":
            texts = [
                b"From: a@b\r\nSubject: =?utf-8?q?=C3=A9?=\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
                b"--x\r\nContent-Type: message/rfc822\r\n\r\nTo: c\r\n\r\nhello\r\n--x\r\n\r\nz\r\n--x--\r\n"
            ]
        case _:
            texts = said
    for number, text in enumerate(texts):
        (folder / f"seed{number}").write_bytes(text[:LENGTH])


def merge(target: str, kept: Path, found: Path) -> tuple[int, int]:
    """Keep of all inputs, those kept before and then the shortest first, what takes a step from line to line which no
    other takes; how many there were and how many are kept."""
    before, after = ({path.read_bytes() for path in folder.iterdir()} for folder in (kept, found))
    inputs = sorted(before | after, key=lambda octets: (octets not in before, len(octets), octets))
    known: set[tuple[str, int, int]] = set()
    chosen = []
    for octets in inputs:
        steps = _steps(TARGETS[target], octets)
        if not steps <= known:
            known |= steps
            chosen.append(octets)
    for path in kept.iterdir():
        path.unlink()
    for octets in chosen:
        (kept / hashlib.sha256(octets).hexdigest()[:16]).write_bytes(octets)
    return len(inputs), len(chosen)


def _steps(target: Callable[[bytes], None], octets: bytes) -> set[tuple[str, int, int]]:
    steps: set[tuple[str, int, int]] = set()

    def enter(frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        file = frame.f_code.co_filename
        if not file.startswith(tuple(str(ROOT / room) for room in ("imap", "mail", "storage"))):
            return None
        before = 0

        def line(frame: FrameType, event: str, _: object) -> Callable[..., object]:
            nonlocal before
            steps.add((file, before, frame.f_lineno))
            before = frame.f_lineno
            return line

        return line

    sys.settrace(enter)
    try:
        target(octets)
    finally:
        sys.settrace(None)
    return steps


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("target", choices=sorted(TARGETS))
    options.add_argument("--seconds", type=int, default=60)
    options.add_argument("--merge", action="store_true", help="keep the smallest set that reaches all that was reached")
    args = options.parse_args()
    kept = HERE / "corpus" / args.target
    kept.mkdir(parents=True, exist_ok=True)
    found = Path(tempfile.gettempdir()) / "homing-fuzz" / args.target
    found.mkdir(parents=True, exist_ok=True)
    seeds(args.target, found)
    if args.merge:
        print("{} inputs, {} kept".format(*merge(args.target, kept, found)))
        return
    try:
        import atheris
    except ImportError:
        raise SystemExit("atheris is not installed: pip install atheris") from None
    atheris.instrument_all()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={args.seconds}",
            f"-max_len={LENGTH}",
            f"-timeout={SECONDS_EACH}",
            str(found),
            str(kept),
        ],
        TARGETS[args.target],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
