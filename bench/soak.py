"""Kill the server with -9 again and again under load, and verify each time; the figures go to a file.

python -m bench.soak --kills 50 --write bench/SOAK.md
"""

from __future__ import annotations

import argparse
import platform
import random
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import track

from tests.crash.load import Ledger, Load, prepare, verify
from tests.live import Live


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=50)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--write", type=Path, help="a Markdown file for the figures")
    args = options.parse_args()
    rng = random.Random(args.seed)
    ledger, starts = Ledger(), []
    with tempfile.TemporaryDirectory(prefix="homing-soak-") as folder:
        live = Live(Path(folder) / "data").start()
        try:
            live.add_users("alice", "bob", "carol")
            prepare(live)
            for round_ in track(range(args.kills), description="kills"):
                load = Load(live, ledger, round_)
                load.start()
                time.sleep(rng.uniform(0.3, 2.5))
                live.kill()
                load.stop()
                load.join()
                began = time.monotonic()
                live.start()
                starts.append(time.monotonic() - began)
                verify(live, ledger)
            assert live.stop() == 0
        finally:
            if live.process is not None and live.process.poll() is None:
                live.kill()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], text=True, capture_output=True).stdout.strip()
    lines = [
        f"## {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}",
        "",
        f"`python -m bench.soak --kills {args.kills} --seed {args.seed}` on {platform.machine()}, Python "
        f"{platform.python_version()}: after each of {args.kills} kills every acknowledged operation was there exactly "
        "once, and each one in flight once or not at all.",
        "",
        "| operation | acknowledged | asked |",
        "|---|---|---|",
        *(f"| {name} | {done} | {asked} |" for name, (done, asked) in ledger.counts().items()),
        "",
        f"Start after a kill: median {sorted(starts)[len(starts) // 2]:.2f} s, longest {max(starts):.2f} s.",
        "",
    ]
    print("\n".join(lines))
    if args.write:
        before = args.write.read_text() if args.write.exists() else "# Kill -9 under load\n\n"
        args.write.write_text(before + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
