"""What can be set about the asynchronous sending API: part of `homing.settings`."""

from __future__ import annotations

from typing import Literal

from runtime.config import Env, Group, OptionalSecret, OptionalText, Port, setting
from smtp.outbound.settings import Durations


class Queue(Group):
    """The asynchronous sending API: where its tasks wait, and how they are sent. See tasks.md."""

    url: OptionalText = setting(
        None,
        "Where tasks wait: redis://host:6379/0 (with appendonly yes and appendfsync always). Empty: beside the mail, in"
        " the spool of storage.",
        env=["QUEUE_URL"],
    )
    concurrency: int = setting(
        10,
        "Tasks that one process sends at the same time. 0: none in `homing up` and `homing serve smtp`, which leave"
        " them to `homing worker`.",
        ge=0,
        le=1000,
    )
    retry: Durations = setting(
        ("3s", "15s"),
        "Pauses before the second and the third attempt, each made longer or shorter by up to a fifth. After the third"
        " a task has failed.",
    )
    lease: float = setting(
        60.0,
        "Seconds for which a worker has a task to itself; it asks for more while it needs them. So long after a worker"
        " was killed another one tries what it had in hand.",
        ge=5,
        le=3600,
    )
    waiting_max: int = setting(
        1000, "Tasks without an end that one account may have, about; one more is 429.", ge=1, le=1_000_000
    )
    smtp_host: OptionalText = setting(
        None,
        "The server that tasks are sent through, by TLS. Empty: they become mail from the account, sent on by this"
        " server itself.",
        env=["SMTP_HOST"],
    )
    smtp_port: int = setting(
        587,
        "Its port: with TLS from the first octet on 465, by STARTTLS on all others.",
        env=[Env("SMTP_PORT", beside="SMTP_HOST")],
        ge=1,
        le=65535,
    )
    smtp_user: OptionalText = setting(
        None, "The name to sign in with there. Empty: nobody signs in.", env=[Env("SMTP_USER", beside="SMTP_HOST")]
    )
    smtp_pass: OptionalSecret = setting(
        None, "The password to sign in with there.", env=[Env("SMTP_PASS", beside="SMTP_HOST")]
    )
    smtp_tls: Literal["must", "may"] = setting(
        "must", "must: TLS with a verified certificate, or nothing is sent. may: where it is offered, for tests."
    )
    smtp_timeout: float = setting(60.0, "Seconds to wait for a connection and for each reply there.", gt=0, le=600)
    sender: OptionalText = setting(
        None,
        "The address that messages through that server come from; the account's own is told as Reply-To. Empty:"
        " `queue.smtp_user` where that is an address, else the account's own.",
    )


class Worker(Group):
    """`homing worker`: a process that sends tasks, and does nothing else."""

    port: Port = setting(8004, "REST of `homing worker`: health and figures.")
