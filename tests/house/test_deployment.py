"""docker-compose.yml, Dockerfile and Makefile say what the documents and interfaces promise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def compose(name: str) -> dict[str, Any]:
    found = yaml.safe_load((ROOT / name).read_text("utf-8"))
    assert isinstance(found, dict)
    return found


def inside(service: dict[str, Any]) -> set[str]:
    """The ports in the container that are mapped."""
    return {str(port).split(":")[-1] for port in service["ports"]}


def test_one_container_has_a_data_volume_and_every_port() -> None:
    file = compose("docker-compose.embedded.yml")
    homing = file["services"]["homing"]
    assert homing["build"] == "."
    assert inside(homing) == {"2525", "2587", "2465", "2143", "2993", "8000"}
    mounted = {volume.split(":")[0] for volume in homing["volumes"]}
    assert mounted <= set(file["volumes"])
    assert "healthcheck" in homing
    assert homing["stop_grace_period"]


PORTS = {
    "identity": {"8001"},
    "storage": {"8002"},
    "smtp": {"2525", "2587", "2465", "8000"},
    "imap": {"2143", "2993", "8003"},
    "worker": {"8004"},
}


def test_services_of_one_image_and_a_replica_set() -> None:
    services = compose("docker-compose.yml")["services"]
    assert set(services) == {"mongo", *PORTS}
    assert {service["image"] for name, service in services.items() if name != "mongo"} == {"homing"}
    mongo = services["mongo"]
    assert "--replSet" in mongo["command"]
    check = " ".join(mongo["healthcheck"]["test"])
    assert "rs.initiate" in check
    assert "isWritablePrimary" in check
    for name, ports in PORTS.items():
        service = services[name]
        assert service["command"] == ["serve", name]
        assert inside(service) == ports
        assert "/api/health" in " ".join(service["healthcheck"]["test"])
        assert service["stop_grace_period"]
    # The database is for the keepers alone.
    assert {name for name, one in services.items() if "store" in one["networks"]} == {"mongo", "identity", "storage"}
    assert {name for name, one in services.items() if "MONGODB_URL" in one.get("environment", {})} == {
        "identity",
        "storage",
    }
    for name in ("identity", "storage"):
        assert services[name]["depends_on"]["mongo"]["condition"] == "service_healthy"


def test_any_service_can_be_scaled() -> None:
    """No name and no host port that two processes would want."""
    file = compose("docker-compose.yml")
    taken: set[tuple[str, int]] = set()
    for service in file["services"].values():
        assert "container_name" not in service
        for port in service.get("ports", ()):
            words = str(port).split(":")
            address, host = ("", words[0]) if len(words) == 2 else (words[0], words[1])
            first, _, last = host.partition("-")
            assert int(last) - int(first) >= 9, port
            wanted = {("", number) for number in range(int(first), int(last) + 1)}
            assert not taken & wanted, port
            taken |= wanted
            assert address in ("", "127.0.0.1")
    mounted = {volume.split(":")[0] for service in file["services"].values() for volume in service.get("volumes", ())}
    assert mounted == set(file["volumes"])


def test_secrets_come_from_the_environment() -> None:
    from homing.settings import PREFIX, Settings
    from runtime.config import entries

    known = {env.name for entry in entries(Settings, PREFIX) for env in entry.env}
    for name in ("docker-compose.yml", "docker-compose.embedded.yml"):
        for service in compose(name)["services"].values():
            given = service.get("environment", {})
            assert set(given) <= known
            for secret in ("HOMING_SERVICE_TOKEN", "HOMING_ADMIN_PASSWORD", "SMTP_PASS"):
                assert secret not in given or given[secret].startswith(f"${{{secret}:")


def test_image_installs_the_locked_dependencies_and_runs_unprivileged() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8")
    assert "--require-hashes -r requirements/run.txt" in lines
    assert re.search(r"^USER homing$", lines, re.M)
    assert re.search(r'^ENTRYPOINT \["homing"\]$', lines, re.M)


def test_image_has_every_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    copied = re.findall(r"^COPY (\w+) (\w+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.M)
    assert {source for source, target in copied if source == target} == set(packages)


def test_make_has_the_targets_people_use() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    for target in ("up", "worker", "refresh", "clear-cache-view", "down", "logs", "check", "test", "soak", "bench"):
        assert re.search(rf"^{target}:", text, re.M), target


def test_lock_has_every_dependency_with_a_hash() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for file, wanted in (
        ("run.txt", project["dependencies"]),
        ("dev.txt", project["dependencies"] + project["optional-dependencies"]["dev"]),
    ):
        lock = (ROOT / "requirements" / file).read_text("utf-8")
        locked = {m.lower() for m in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.M)}
        names = {re.split(r"[<>=\[]", requirement)[0].lower() for requirement in wanted}
        assert names <= locked
        assert lock.count("==") <= lock.count("--hash=sha256:")
