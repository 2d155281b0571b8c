"""The asynchronous sending API: a task is accepted once it is durable, and asked about until a day after its end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Protocol

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from connectors.tasks.model import CONTENT_MAX, NewTask, Status, Task
from connectors.tasks.port import Reason, Refused, TaskQueue, Unavailable
from connectors.tasks.worker import Worker
from identity.model import Principal
from mail.address import AddressError
from mail.compose import NOT_IN_A_LINE
from runtime.ids import new_id
from runtime.rest import Guard, Problem, Told, peer

BODY_MAX: Final = 128 * 1024
"""Characters of a body, before and after names are filled in."""
SUBJECT_MAX: Final = 998
NAME_MAX: Final = 256
KEY_MAX: Final = 255
PLACEHOLDER: Final = "{username}"
BUSY_SECONDS: Final = 30.0
_STATUS: Final = {
    Reason.NO_SUCH_TASK: 404,
    Reason.LEASE_LOST: 409,
    Reason.BEING_SENT: 409,
    Reason.ENDED: 409,
    Reason.TOO_MANY: 429,
    Reason.TOO_BIG: 413,
}
TWICE = (
    "It was not seen what an attempt before came to (a reply was lost, or the server was stopped): the message may have"
    " been sent more than once."
)
ALL_THE_SAME = (
    "It was not seen what an attempt came to (a reply was lost, or the server was stopped): the message may have been"
    " sent all the same."
)


class Received(BaseModel):
    """A message of plain text to one address. `{username}` in its body stands for the name; nothing else is filled
    in."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "to": "user@example.com",
                    "subject": "Welcome",
                    "body": "Hello {username}, good to see you.",
                    "username": "Ada",
                }
            ]
        }
    )
    to: str = Field(max_length=1024, description="one address")
    subject: str = Field("", max_length=SUBJECT_MAX, description="one line")
    body: str = Field("", max_length=BODY_MAX)
    username: str = Field("", max_length=NAME_MAX, description="one line")


class Queued(BaseModel):
    """The task is durable."""

    task_id: str = Field(examples=["S00000000002a"])
    status: Literal["queued"] = "queued"


class Result(BaseModel):
    """What is known of a task. attempts, reason: once it has ended. doubtful, note: where it was not seen what an
    attempt came to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"status": "pending", "to": "user@example.com"},
                {"status": "success", "to": "user@example.com", "attempts": 1},
                {
                    "status": "failed",
                    "to": "user@example.com",
                    "reason": "mx.example.com [192.0.2.1]:587: 550 5.1.1 There is no such user",
                    "attempts": 1,
                },
                {"status": "cancelled", "to": "user@example.com", "attempts": 0},
            ]
        }
    )
    status: Literal["pending", "success", "failed", "cancelled"]
    to: str
    reason: str | None = None
    attempts: int | None = None
    doubtful: bool | None = None
    note: str | None = None


class TaskFigures(BaseModel):
    """Tasks of the sending API. waiting: without an end, of all, as last counted; the others are of this process:
    running: being sent now; and since the start those sent, failed, put off, and taken over from workers that died."""

    waiting: int
    running: int
    succeeded: int
    failed: int
    retried: int
    recovered: int


@dataclass(frozen=True, slots=True)
class Asked:
    """A message as it is to be composed; its lines are clean. peer: IP address of who asked."""

    to: str
    subject: str
    body: str
    peer: str


Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_MAX,
        description="Repeats with the same key within the hour are one task, and get its id.",
        examples=["order-4711"],
    ),
]
TaskId = Annotated[str, Query(max_length=NAME_MAX, description="as it was given", examples=["S00000000002a"])]


class Compose(Protocol):
    """From who asks, and for what, to a task whose digest is still empty. AddressError for an address that is none."""

    def __call__(self, caller: Principal, asked: Asked) -> NewTask: ...


Admit = Callable[[Principal], float | None]
"""Counts one more message of the account: seconds to wait where it has used up its rate."""


def problems() -> Mapping[type[Exception], Callable[[Exception], Problem]]:
    """How the queue's errors are told over HTTP, for `runtime.rest.make_app`."""

    def refused(error: Exception) -> Problem:
        if not isinstance(error, Refused):
            raise error
        return Problem(_STATUS[error.reason], error.text, BUSY_SECONDS if error.reason is Reason.TOO_MANY else None)

    def unavailable(_error: Exception) -> Problem:
        return Problem(503, "The queue of tasks cannot answer now; try again.", 5.0)

    return {Refused: refused, Unavailable: unavailable}


def router(
    queue: TaskQueue, guard: Guard[Principal], compose: Compose, admit: Admit, is_admin: Callable[[Principal], bool]
) -> APIRouter:
    """The routes of tasks: each account sees its own, an administrator all."""
    routes = APIRouter(prefix="/api/v1/email", tags=["tasks"])
    user = Depends(guard.user)

    @routes.post("/received", summary="Hand in a message to be sent", responses=_told(401, 403, 413, 422, 429))
    async def received(body: Received, request: Request, key: Key = None, caller: Principal = user) -> Queued:
        """Accept a message, to be sent by a worker. It is durable when this answers; what becomes of it is told by
        `GET /api/v1/email/result` until a day after its end."""
        digest = _digest(body)
        text = _filled(body)
        for name in ("to", "subject", "username"):
            if NOT_IN_A_LINE.search(getattr(body, name)):
                raise HTTPException(422, f"{name}: control characters and line ends cannot stand here.")
        if "\0" in body.body:
            raise HTTPException(422, "body: a NUL cannot be sent.")
        try:
            task = compose(caller, Asked(body.to.strip(), body.subject, text, peer(request)))
        except AddressError as error:
            raise HTTPException(422, f"to: {error}.") from None
        if len(task.content) > CONTENT_MAX:
            raise HTTPException(413, f"The message has {len(task.content)} octets; at most {CONTENT_MAX} can be sent.")
        if (wait := admit(caller)) is not None:
            raise HTTPException(
                429, "The account has sent as much as it may for now.", {"Retry-After": str(int(wait) + 1)}
            )
        given = NewTask(task.account, task.sender, task.to, task.content, task.trace, digest)
        id = await queue.put(given, new_id() if key is None else f"key {key}")
        if key is not None:
            await _check_same(queue, id, caller, digest)
        return Queued(task_id=id)

    @routes.get(
        "/result",
        summary="What became of a task",
        response_model_exclude_none=True,
        responses=_told(401, 403, 404, 422),
    )
    async def result(task_id: TaskId, caller: Principal = user) -> Result:
        """What has become of a task: pending, success, failed or cancelled."""
        return _result(await queue.task(task_id, _whose(caller)))

    @routes.delete(
        "/received",
        summary="Cancel a task that waits",
        response_model_exclude_none=True,
        responses=_told(401, 403, 404, 409, 422),
    )
    async def cancel(task_id: TaskId, caller: Principal = user) -> Result:
        """Cancel a task that waits, before its first attempt or between two. 409 for one that is being sent at this
        moment, or has ended."""
        await queue.cancel(task_id, _whose(caller))
        return _result(await queue.task(task_id, _whose(caller)))

    def _whose(caller: Principal) -> str | None:
        return None if is_admin(caller) else caller.account

    return routes


def figures_of(worker: Worker) -> TaskFigures:
    """Those of this process's worker."""
    figures = worker.figures
    return TaskFigures(
        waiting=figures.waiting,
        running=worker.running,
        succeeded=figures.succeeded,
        failed=figures.failed,
        retried=figures.retried,
        recovered=figures.recovered,
    )


def figures_router(worker: Worker, guard: Guard[Principal]) -> APIRouter:
    """`GET /api/stats` of a process that does nothing else."""
    routes = APIRouter(tags=["tasks"])

    @routes.get(
        "/api/stats",
        summary="Look at the figures",
        responses=_told(401, 403),
        dependencies=[Depends(guard.admin)],
    )
    async def stats() -> TaskFigures:
        """The figures since the start."""
        return figures_of(worker)

    return routes


def _told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        401: "No valid token",
        403: "Not permitted, or plain HTTP from another machine",
        404: "There is no such task, or none of this account",
        409: "It is being sent, or has ended",
        413: "The message is too long",
        422: "A value is not acceptable, or the key was used for another message",
        429: "Too many tasks wait, or the account's rate is used up: wait for Retry-After seconds",
        503: "Cannot answer now: try again",
    }
    return {status: {"model": Told, "description": words[status]} for status in (*statuses, 503)}


def _filled(body: Received) -> str:
    length = len(body.body) + body.body.count(PLACEHOLDER) * (len(body.username) - len(PLACEHOLDER))
    if length > BODY_MAX:
        raise HTTPException(413, f"The body with its names has {length} characters; at most {BODY_MAX} can be sent.")
    return body.body.replace(PLACEHOLDER, body.username)


def _digest(body: Received) -> str:
    said = json.dumps([body.to, body.subject, body.body, body.username])
    return hashlib.blake2s(said.encode(), digest_size=16).hexdigest()


async def _check_same(queue: TaskQueue, id: str, caller: Principal, digest: str) -> None:
    """422 where the key was that of another message."""
    try:
        known = await queue.task(id, caller.account)
    except Refused:
        # It was forgotten between the two calls.
        return
    if known.digest != digest:
        raise HTTPException(422, "Idempotency-Key: this key was used for another message within the hour.")


def _result(task: Task) -> Result:
    ended = task.status is not Status.PENDING
    found = Result(status=task.status.value, to=task.to, attempts=task.attempts if ended else None)
    if task.status is Status.FAILED:
        found.reason = task.reason
    if task.doubtful and ended:
        found.doubtful, found.note = True, TWICE if task.status is Status.SUCCESS else ALL_THE_SAME
    return found
