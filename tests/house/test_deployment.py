"""docker-compose.yml, Dockerfile and Makefile say what the documents and interfaces promise."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_compose_runs_one_image_with_a_data_volume_and_every_port() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    homing = compose["services"]["homing"]
    assert homing["build"] == "."
    inside = {str(port).split(":")[-1] for port in homing["ports"]}
    assert inside == {"2525", "2587", "2465", "2143", "2993", "8000"}
    mounted = {volume.split(":")[0] for volume in homing["volumes"]}
    assert mounted <= set(compose["volumes"])
    assert "healthcheck" in homing
    assert homing["stop_grace_period"]


def test_image_installs_the_locked_dependencies_and_runs_unprivileged() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8")
    assert "--require-hashes -r requirements/run.txt" in lines
    assert re.search(r"^USER homing$", lines, re.M)
    assert re.search(r'^ENTRYPOINT \["homing"\]$', lines, re.M)


def test_make_has_the_targets_people_use() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    for target in ("up", "refresh", "clear-cache-view", "down", "logs", "check", "test", "soak", "bench"):
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
