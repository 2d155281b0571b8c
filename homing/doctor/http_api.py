"""The doctor over REST: what it found last, and looking now."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel

from homing.doctor.daily import DailyDoctor, DoctorUnavailable
from homing.doctor.finding import Report
from identity.model import Principal
from runtime.rest import Guard, told


class Found(BaseModel):
    """One thing that was looked at. state: ok, warn, bad or skipped (it is not known). paste: lines of a zone file to
    publish, or commands. why: what it means, and what to do."""

    check: str
    subject: str
    state: str
    found: str
    wanted: str
    paste: list[str]
    why: str


class Changed(BaseModel):
    """Something is not as it was when it was last known."""

    check: str
    subject: str
    before: str
    after: str
    found: str


class Look(BaseModel):
    """at: when it began, in Unix seconds. state: the worst. counts: findings by state. changes: since the look
    before."""

    at: float
    seconds: float
    state: str
    counts: dict[str, int]
    findings: list[Found]
    changes: list[Changed]


def router(doctor: DailyDoctor, guard: Guard[Principal]) -> APIRouter:
    """The routes, for administrators."""
    routes = APIRouter(tags=["doctor"], dependencies=[Depends(guard.admin)])

    @routes.get("/api/doctor", summary="What was found last", responses=told(401, 403, 404))
    async def found() -> Look:
        """What it found when it last looked, with the records to publish."""
        try:
            report = await doctor.last()
        except DoctorUnavailable as error:
            raise _unavailable(error) from error
        if report is None:
            raise HTTPException(404, "The doctor has not looked yet; POST asks it to.")
        return _look(report)

    @routes.post("/api/doctor", summary="Look now", responses=told(401, 403))
    async def look() -> Look:
        """Look now. It takes up to a minute. The DNS is asked, our own ports are tried, and `doctor.probe` is greeted
        where it is set."""
        try:
            return _look(await doctor.now())
        except DoctorUnavailable as error:
            raise _unavailable(error) from error

    return routes


def _look(report: Report) -> Look:
    return Look.model_validate(report.plain())


def _unavailable(error: DoctorUnavailable) -> HTTPException:
    return HTTPException(503, f"{error}; try again.", headers={"Retry-After": "5"})
