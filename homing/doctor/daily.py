"""The doctor in the server: once a day, by one of all processes, telling what has changed; and whenever asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import structlog

import identity.port
from homing.doctor.examine import examine
from homing.doctor.finding import Report, State
from homing.doctor.kept import keep, last
from homing.doctor.wanted import make_setup
from homing.keepers import open_resolver
from homing.ports import Listening
from homing.settings import Settings
from identity.port import Identity
from runtime.clock import Clock, SystemClock
from runtime.dns import Resolver
from runtime.ids import new_id
from runtime.lifecycle import StartError
from runtime.metrics import Metrics
from smtp.outbound.notes import Notes, NotesUnavailable

EVERY_SECONDS = 86400.0
FIRST_SECONDS = 300.0
"""After the start: there is other work then, and listeners are to be there."""
LOOK_SECONDS = 600.0
"""Between two looks whether a day is over."""
CLAIM_SECONDS = 600.0
"""A process that has the turn and has not reported for so long has ended."""
TURN_SPACE = "doctor-turn"
EXAMINE_SECONDS = 60.0

log = structlog.get_logger("doctor")


class DoctorUnavailable(Exception):
    """There is no result now; the text says why."""


class DailyDoctor:
    """A service: start, drain, stop. Any number of processes may have one each; the notes, which they share, say whose
    turn it is. listeners: what this process serves."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        identity: Identity,
        notes: Notes,
        listeners: Callable[[], tuple[Listening, ...]],
        metrics: Metrics,
        *,
        clock: Clock | None = None,
        resolver: Callable[[Settings], Resolver] = open_resolver,
        first: float = FIRST_SECONDS,
        look: float = LOOK_SECONDS,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._notes = notes
        self._listeners = listeners
        self._clock = clock or SystemClock()
        self._resolver = resolver
        self._first = first
        self._look = look
        self._process = new_id()
        self._task: asyncio.Task[None] | None = None
        self._examining: asyncio.Task[Report] | None = None
        self._gauge = metrics.gauge("doctor_findings", "What the doctor found when it last looked, by state", ["state"])
        self._looked = metrics.gauge("doctor_last_look_seconds", "When the doctor last looked, in Unix seconds")
        # Prometheus's way to say that a figure is not known.
        for state in State:
            self._gauge.labels(state.value).set(math.nan)
        self._looked.set(math.nan)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._forever(), name="doctor")

    async def drain(self) -> None:
        return None

    async def stop(self) -> None:
        tasks = [task for task in (self._task, self._examining) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def last(self) -> Report | None:
        """The last report, of whichever process. Raises DoctorUnavailable."""
        try:
            return await last(self._notes)
        except NotesUnavailable as error:
            raise DoctorUnavailable(f"the last result cannot be read now: {error}") from error

    async def now(self) -> Report:
        """Look now; who asks meanwhile gets the same report. Raises DoctorUnavailable."""
        if self._examining is None:
            self._examining = asyncio.create_task(self._examine(), name="doctor look")
            self._examining.add_done_callback(self._examined)
        # Who goes away does not end it for the others.
        return await asyncio.shield(self._examining)

    def _examined(self, task: asyncio.Task[Report]) -> None:
        self._examining = None
        if not task.cancelled():
            # Told to whoever waits; where nobody does any more, it is nobody's error.
            task.exception()

    async def _examine(self) -> Report:
        settings = self._settings()
        try:
            before = await last(self._notes)
            setup = await make_setup(settings, self._identity)
            report = await examine(
                settings,
                setup,
                self._resolver(settings),
                self._listeners(),
                seconds=EXAMINE_SECONDS,
                before=before,
                clock=self._clock,
            )
            await keep(self._notes, report)
        except (NotesUnavailable, identity.port.Unavailable, identity.port.Refused, StartError) as error:
            raise DoctorUnavailable(f"the doctor cannot look now: {error}") from error
        self._show(report)
        _tell(report, before)
        return report

    def _show(self, report: Report) -> None:
        for state, number in report.counts().items():
            self._gauge.labels(state).set(number)
        self._looked.set(report.at)

    async def _forever(self) -> None:
        await asyncio.sleep(self._first)
        while True:
            try:
                await self._round()
            except (DoctorUnavailable, NotesUnavailable) as error:
                log.warning("the doctor waits", reason=str(error))
            except Exception:
                log.exception("the doctor failed")
            await asyncio.sleep(self._look)

    async def _round(self) -> None:
        report = await last(self._notes)
        if report is not None:
            self._show(report)
        if not self._settings().doctor.daily:
            return
        now = self._clock.now()
        if report is not None and 0 <= now - report.at < EVERY_SECONDS:
            return
        # One look for each report before it, whichever process is first.
        turn = "first" if report is None else f"{report.at:.3f}"
        if await self._notes.first(TURN_SPACE, turn, self._process, now + CLAIM_SECONDS) == self._process:
            await self.now()


def _tell(report: Report, before: Report | None) -> None:
    """In the log: drift; and of the first look of all, what is wrong."""
    for change in report.changes:
        (log.warning if change.worse else log.info)(
            "not as it was" if change.worse else "better than it was",
            check=change.check,
            subject=change.subject,
            before=change.before.value,
            now=change.after.value,
            found=change.found,
        )
    counts = report.counts()
    if before is None and report.state is not State.OK:
        log.warning("the first look found something: homing doctor tells what", bad=counts["bad"], warn=counts["warn"])
    else:
        log.info("looked", **counts)
