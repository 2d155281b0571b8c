"""Files of environment variables, as many tools read them: NAME=value lines in ``.env``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from runtime.lifecycle import StartError

_LINE: Final = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTED: Final = re.compile(r"""(["'])(.*)\1\s*(?:#.*)?""")
_COMMENT: Final = re.compile(r"(?:^|\s+)#.*")
SIZE_MAX: Final = 1024 * 1024
EXIT_CONFIG: Final = 78


def read_dotenv(file: Path) -> dict[str, str]:
    """The variables of the file; {} where there is none. A value may stand in quotes, within which nothing is changed;
    outside of them " #" begins a comment. Raises StartError for a file that cannot be read, naming the line and never
    its value."""
    try:
        with file.open("rb") as opened:
            octets = opened.read(SIZE_MAX + 1)
        if len(octets) > SIZE_MAX:
            raise StartError(f"{file} is longer than {SIZE_MAX} octets.", exit_code=EXIT_CONFIG)
        text = octets.decode("utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise StartError(f"{file} cannot be read: {reason}.", exit_code=EXIT_CONFIG) from error
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        parts = _LINE.fullmatch(stripped)
        if parts is None:
            raise StartError(f"{file}, line {number}: a line is NAME=value.", exit_code=EXIT_CONFIG)
        quoted = _QUOTED.fullmatch(parts[2])
        found[parts[1]] = quoted[2] if quoted is not None else _COMMENT.sub("", parts[2])
    return found
