"""Build the two test servers into a cache folder, again only when their sources have changed.

The folder: HOMING_TEST_SERVERS, or ~/.cache/homing-test-servers. A built server carries the hash of its sources in its
name. Maven and Go find the registries by their own configuration.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD_SECONDS = 900.0
"""How long one build may take, downloads included."""
JAVA_HEAP = "4g"


class ServerMissing(Exception):
    """A test server cannot be had here; the text is a sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """A server's sources.

    name: folder and file name. variable: what its URL is exported as. suffix: of the file built. run_tools and
    build_tools: commands needed on PATH. packages: Debian's, that have them. build: from a copy of the folder and the
    file to make, to the command. run: from the built file, the port and a folder for data, to the command.
    """

    name: str
    variable: str
    suffix: str
    run_tools: tuple[str, ...]
    build_tools: tuple[str, ...]
    packages: str
    build: Callable[[Path, Path], list[str]]
    run: Callable[[Path, int, Path], list[str]]


def _maven(source: Path, made: Path) -> list[str]:
    jar = source / "target" / "mongo-java-server.jar"
    return ["sh", "-c", 'mvn -q -B package && mv "$0" "$1"', str(jar), str(made)]


def _go(_: Path, made: Path) -> list[str]:
    return ["go", "build", "-mod=readonly", "-trimpath", "-tags", "ferretdb_no_postgresql", "-o", str(made), "."]


def _java(made: Path, port: int, _: Path) -> list[str]:
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return ["java", f"-Xmx{JAVA_HEAP}", "-XX:+UseSerialGC", quiet, "-jar", str(made), str(port)]


def _ferretdb(made: Path, port: int, folder: Path) -> list[str]:
    return [str(made), str(port), str(folder)]


JAVA = Source(
    "mongo-java-server",
    "HOMING_TEST_MONGODB",
    ".jar",
    ("java",),
    ("java", "mvn"),
    "default-jdk-headless maven",
    _maven,
    _java,
)
FERRETDB = Source("ferretdb", "HOMING_TEST_FERRETDB", "", (), ("go",), "golang", _go, _ferretdb)
SOURCES = (JAVA, FERRETDB)


def built(source: Source) -> Path:
    """The server's file, built if need be. Raises ServerMissing when a tool is not there or the build fails."""
    _need(source, source.run_tools)
    with _locked(_cache() / f"{source.name}.lock"):
        made = _cache() / f"{source.name}-{_digest(HERE / source.name)}{source.suffix}"
        if not made.exists():
            _need(source, source.build_tools)
            _build(source, made)
            for old in _cache().glob(f"{source.name}-*{source.suffix}"):
                if old != made and old.suffix == made.suffix:
                    old.unlink()
        return made


def _build(source: Source, made: Path) -> None:
    print(f"building {source.name} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=_cache(), prefix=f".{source.name}-") as scratch:
        copy, result = Path(scratch) / "source", Path(scratch) / "made"
        shutil.copytree(HERE / source.name, copy, ignore=shutil.ignore_patterns("target"))
        try:
            done = subprocess.run(
                source.build(copy, result),
                cwd=copy,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=BUILD_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerMissing(f"{source.name} was not built within {BUILD_SECONDS:.0f} s") from error
        if done.returncode or not result.exists():
            raise ServerMissing(f"{source.name} could not be built:\n{done.stdout[-4000:]}")
        os.replace(result, made)


def _need(source: Source, tools: tuple[str, ...]) -> None:
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise ServerMissing(
            f"{source.name} needs {' and '.join(missing)}, not found on PATH (Debian: apt install {source.packages})"
        )


def _cache() -> Path:
    named = os.environ.get("HOMING_TEST_SERVERS")
    folder = Path(named) if named else Path.home() / ".cache" / "homing-test-servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "target" not in p.relative_to(folder).parts):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock file, so that of several test runs one builds."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
