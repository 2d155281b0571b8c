"""`homing check`: could the server start with these settings?"""

from __future__ import annotations

from dataclasses import dataclass

from homing.keepers import refuse_distributed
from homing.overrides import SettingsKeeper
from homing.settings import Settings, load_settings
from runtime.admin import FolderLock, FolderLocked
from runtime.lifecycle import StartError
from runtime.listener import bind
from runtime.tls import Tls


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    detail: str


async def examine() -> list[Finding]:
    """Look at everything that does not need the server to start; what is wrong is a finding, never an exception."""
    try:
        settings = load_settings().settings
        refuse_distributed(settings)
    except StartError as error:
        return [Finding("settings", False, str(error))]
    findings = [Finding("settings", True, "understood")]
    running = False
    try:
        with FolderLock(settings.data):
            findings.append(Finding("data folder", True, str(settings.data.absolute())))
            keeper = SettingsKeeper(settings.data)
            settings = await keeper.open()
            await keeper.close()
    except FolderLocked as error:
        running = True
        findings.append(Finding("data folder", True, f"{settings.data.absolute()}, in use by process {error.pid}"))
    except StartError as error:
        findings.append(Finding("data folder and overrides", False, str(error)))
    findings.append(_certificate(settings))
    if not running:
        findings += _ports(settings)
    return findings


def _certificate(settings: Settings) -> Finding:
    if settings.tls.cert is None or settings.tls.key is None:
        return Finding("certificate", True, "self-signed, made on the first run")
    try:
        Tls(settings.tls.cert, settings.tls.key)
    except StartError as error:
        return Finding("certificate", False, str(error))
    return Finding("certificate", True, str(settings.tls.cert))


def _ports(settings: Settings) -> list[Finding]:
    findings = []
    for name, port in (
        ("SMTP", settings.smtp.port),
        ("submission", settings.submission.port),
        ("submissions", settings.submissions.port),
        ("IMAP", settings.imap.port),
        ("IMAPS", settings.imaps.port),
        ("REST", settings.rest.port),
    ):
        if port is None:
            findings.append(Finding(name, True, "off"))
            continue
        try:
            for held in bind(settings.host, port, what=name):
                held.close()
        except StartError as error:
            findings.append(Finding(name, False, str(error)))
        else:
            findings.append(Finding(name, True, f"port {port} is free" if port else "any free port"))
    return findings
