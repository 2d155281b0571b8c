"""Twenty sessions in one mailbox, doing legal commands by lot, each with a model of what it was told.

    python -m tests.stress.run                         60 s against a server of its own
    python -m tests.stress.run --seconds 10 --seed 7   shorter, another lot
    python -m tests.stress.run --write bench/SOAK.md   and keep what came of it

It fails with the dialogue of the session that was told a contradiction: an EXPUNGE at the wrong time, a wrong sequence
number, a lost flag, a message that came back or that is not what was appended.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from tests.live import PASSWORD, Live, make, mode
from tests.stress.session import Kind, Session, Shared

KINDS = (
    Kind(),
    Kind("CONDSTORE"),
    Kind("QRESYNC"),
    Kind("IMAP4rev2"),
    Kind("UIDONLY"),
    Kind("", "selected-delayed"),
    Kind("IMAP4rev2", "selected"),
    Kind("QRESYNC IMAP4rev2 UIDONLY", "selected"),
)
USER = "alice"


async def stress(port: int, user: str, sessions: int, seconds: float, seed: int) -> Shared:
    """Raises Contradiction, or returns what was done once all sessions agree with the mailbox."""
    shared = Shared()
    everyone = [Session(n, shared, seed, KINDS[n % len(KINDS)]) for n in range(sessions)]
    first = everyone[0]
    await first.open(port, user, PASSWORD)
    await first.run(b"CREATE", "CREATE Other")
    for _ in range(30):
        await first.append()
    await asyncio.gather(*(one.open(port, user, PASSWORD) for one in everyone[1:]))
    end = asyncio.get_running_loop().time() + seconds

    async def busy(one: Session) -> None:
        while asyncio.get_running_loop().time() < end:
            await one.step()

    async with asyncio.TaskGroup() as group:
        for one in everyone:
            group.create_task(busy(one))
    await agree(port, user, everyone, shared)
    await asyncio.gather(*(one.close() for one in everyone))
    return shared


async def agree(port: int, user: str, everyone: list[Session], shared: Shared) -> None:
    """Once told all, every session knows what a new one is told; nothing was lost, and nothing came from nowhere."""
    fresh = Session(len(everyone), shared, 0)
    await fresh.open(port, user, PASSWORD)
    truth = fresh.model
    taken = set().union(*(one.model.gone for one in everyone))
    for one in everyone:
        # a change of the last moment is there for whoever asks next
        await one.run(b"NOOP", "NOOP")
        model = one.model
        await one.run(b"UID FETCH", "UID FETCH 1:* (FLAGS)")
        model.check(model.uids == truth.uids, f"knows {model.uids}, and there are {truth.uids}")
        model.check(model.flags == truth.flags, "knows other flags than a new session is told")
        there = {uid for uid, flags in truth.flags.items() if model.own in flags}
        model.check(
            there == model.marked & set(truth.flags), f"{model.own} is on {there}, and was set on {model.marked}"
        )
        taken |= model.gone
    present = {uid for uid in truth.uids if uid is not None}
    truth.check(set(shared.appended) - present <= taken, f"lost: {set(shared.appended) - present - taken}")
    truth.check(present <= set(shared.appended), f"from nowhere: {present - set(shared.appended)}")
    status = await fresh.run(b"STATUS", "STATUS Other (MESSAGES)")
    truth.check(status.startswith(b"OK"), f"{status!r}")
    count = f"(MESSAGES {shared.elsewhere})"
    truth.check(any(count in line for line in truth.log[-3:]), f"Other should have {count}: {truth.log[-3:]}")
    await fresh.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sessions", type=int, default=20)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", type=Path, help="a Markdown file for what came of it")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="homing-stress-") as folder:
        live = make(Path(folder) / "data").start()
        try:
            live.add_users(USER)
            done = asyncio.run(stress(imap_port(live), USER, args.sessions, args.seconds, args.seed))
        finally:
            live.stop()
    total = sum(done.commands.values())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(done.commands.items(), key=lambda one: -one[1]))
    text = (
        f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}\n\n"
        f"`python -m tests.stress.run --sessions {args.sessions} --seconds {args.seconds:g} --seed {args.seed}` "
        f"({mode()}): {total:,} commands of {args.sessions} sessions in one mailbox, {len(done.appended):,} messages "
        f"appended, {done.elsewhere:,} copied or moved away; no session was told a contradiction, and at the end all "
        f"knew the same. {told}.\n\n"
    )
    print(text)
    if args.write:
        with args.write.open("a") as file:
            file.write(text)


def imap_port(live: Live) -> int:
    return int(live.ports["IMAP"])


if __name__ == "__main__":
    main()
