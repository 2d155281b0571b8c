"""/metrics of every service: Prometheus's own parser reads it, who may not is told so, and docs/metrics.md lists it.

python -m tests.homing.test_metrics     write the table of docs/metrics.md again
"""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.live import DOMAIN, PASSWORD, Cluster, Live

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
SERVICES = {"smtp": "REST", "imap": "IMAP_REST", "identity": "IDENTITY", "storage": "STORAGE"}
SECRET = "a secret for the scraper"


def fetch(live: Live, port: str, token: str | None = None) -> tuple[int, str, str]:
    """(status, content type, text)"""
    request = urllib.request.Request(f"http://{live.host}:{live.ports[port]}/metrics")
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", error.read().decode()


def families(live: Live, port: str, token: str | None = None) -> dict[str, Metric]:
    status, kind, text = fetch(live, port, token)
    assert status == 200, text
    assert kind.startswith("text/plain; version=0.0.4")
    found = list(text_string_to_metric_families(text))
    names = [family.name for family in found]
    assert len(names) == len(set(names)), "a name twice"
    return {family.name: family for family in found}


def shown(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def table(cluster: Cluster, token: str | None = None) -> str:
    """The figures of all services, as Markdown."""
    rows: dict[str, Metric] = {}
    where: dict[str, list[str]] = defaultdict(list)
    for service, port in SERVICES.items():
        for family in families(cluster, port, token).values():
            rows.setdefault(shown(family), family)
            where[shown(family)].append(service)
    lines = ["| figure | type | of | labels | meaning |\n", "|---|---|---|---|---|\n"]
    for name in sorted(rows, key=lambda name: (name.startswith("process_"), name)):
        family = rows[name]
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"service", "le"})
        of = "all" if len(where[name]) == len(SERVICES) else ", ".join(where[name])
        told = family.documentation.replace("|", "\\|")
        lines.append(f"| `{name}` | {family.type} | {of} | {', '.join(labels)} | {told} |\n")
    return "".join(lines)


def split(page: str) -> tuple[str, str, str]:
    found = re.fullmatch(f"(.*{BEGIN})(.*)({END}.*)", page, re.DOTALL)
    assert found is not None
    return found[1], found[2], found[3]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory):
    cluster = Cluster(tmp_path_factory.mktemp("metrics") / "data", HOMING_METRICS_TOKEN=SECRET)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize("port", SERVICES.values())
def test_who_may_read_them(cluster: Cluster, port: str) -> None:
    assert fetch(cluster, port)[0] == 401
    assert fetch(cluster, port, "another secret of someone")[0] == 401
    assert fetch(cluster, port, SECRET)[0] == 200
    assert fetch(cluster, port, cluster.admin_token())[0] == 200
    if not cluster.cli("user", "list", "--json").stdout.count(f"ann@{DOMAIN}"):
        cluster.add_users("ann")
    assert fetch(cluster, port, cluster.token("ann", PASSWORD))[0] == 403


def test_the_secret_of_metrics_opens_nothing_else(cluster: Cluster) -> None:
    for path in ("/api/stats", "/api/users", "/api/bans", "/api/config"):
        assert cluster.rest("GET", path, token=SECRET)[0] == 401


def test_the_page_lists_what_there_is(cluster: Cluster) -> None:
    assert split(PAGE.read_text("utf-8"))[1] == table(cluster, SECRET), "python -m tests.homing.test_metrics"


def test_one_process_has_the_figures_of_all_services_but_those_between_them(cluster: Cluster, tmp_path: Path) -> None:
    apart = {name for port in SERVICES.values() for name in families(cluster, port, SECRET)}
    live = Live(tmp_path / "data", HOMING_METRICS_READ="loopback").start()
    try:
        before = families(live, "REST")
        assert set(before) == apart - {"homing_port_calls", "homing_port_calls_open"}
        live.add_users("ann")
        live.cli("send", f"ann@{DOMAIN}")
        after = families(live, "REST")
        received = [family["homing_smtp_emails_received"].samples[0].value for family in (before, after)]
        assert received == [0, 1]
    finally:
        live.stop()


def main() -> int:
    """Write the table."""
    with TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "data", HOMING_METRICS_READ="loopback")
        try:
            cluster.start()
            before, _, after = split(PAGE.read_text("utf-8"))
            PAGE.write_text(before + table(cluster) + after, "utf-8")
        finally:
            cluster.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
