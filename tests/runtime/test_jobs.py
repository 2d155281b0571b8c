"""The queue of jobs: which thread gets one, and how waiting ends."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable

import pytest

from runtime.jobs import Job, JobQueue, QueueRefused


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def job(name: str) -> Job:
    return Job(lambda: name, concurrent.futures.Future(), None)


class Taker:
    """A thread that takes jobs and holds each until it is told to go on."""

    def __init__(self, queue: JobQueue) -> None:
        self.taken: list[Job] = []
        self.go_on = threading.Semaphore(0)
        self._queue = queue
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        while (item := self._queue.take()) is not None:
            self.taken.append(item)
            self.go_on.acquire(timeout=60)


@pytest.fixture
def queue() -> JobQueue:
    made = JobQueue(4, "queue")
    made.open()
    return made


def begun(queue: JobQueue, waiting: int) -> Taker:
    """One more that takes; so many wait then."""
    taker = Taker(queue)
    until(lambda: queue.idle == waiting)
    return taker


def test_who_waits_the_shortest_gets_the_job(queue: JobQueue) -> None:
    first, second = begun(queue, 1), begun(queue, 2)
    for number in range(1, 4):
        queue.put(job("one"))
        until(lambda number=number: len(second.taken) == number)  # type: ignore[misc]
        second.go_on.release()
        until(lambda: queue.idle == 2)
    queue.put(job("two"))
    until(lambda: len(second.taken) == 4)
    queue.put(job("three"))
    until(lambda: len(first.taken) == 1)
    queue.close()
    first.go_on.release()
    second.go_on.release()
    first.thread.join(60)
    second.thread.join(60)
    assert (len(first.taken), len(second.taken)) == (1, 4)


def test_jobs_keep_their_order(queue: JobQueue) -> None:
    jobs = [job(str(number)) for number in range(4)]
    for one in jobs:
        queue.put(one)
    with pytest.raises(QueueRefused):
        queue.put(job("too many"))
    assert [queue.take() for _ in jobs] == jobs


def test_one_who_was_called_for_a_job_that_another_took_waits_on(queue: JobQueue) -> None:
    taker = begun(queue, 1)
    for _ in range(200):
        queue.put(job("one"))
        if queue.take_waiting() is None:
            taker.go_on.release()
        until(lambda: queue.idle == 1)
    queue.put(job("last"))
    before = len(taker.taken)
    until(lambda: len(taker.taken) == before + 1 or (bool(taker.taken) and taker.taken[-1].job() == "last"))
    taker.go_on.release()
    queue.close()
    taker.thread.join(60)
    assert not taker.thread.is_alive()


def test_closing_ends_all_who_wait(queue: JobQueue) -> None:
    takers = [begun(queue, number + 1) for number in range(3)]
    queue.close()
    for taker in takers:
        taker.thread.join(60)
    assert queue.take() is None
    with pytest.raises(QueueRefused):
        queue.put(job("late"))


def test_waiting_for_a_job_takes_none(queue: JobQueue) -> None:
    assert not queue.wait(0.0)
    assert queue.idle == 0
    came: list[bool] = []
    waiter = threading.Thread(target=lambda: came.append(queue.wait(60.0)))
    waiter.start()
    until(lambda: queue.idle == 1)
    queue.put(job("one"))
    waiter.join(60)
    assert came == [True]
    assert queue.wait(0.0)
    assert len(queue) == 1


def test_waiting_for_a_job_ends_with_the_queue(queue: JobQueue) -> None:
    came: list[bool] = []
    waiter = threading.Thread(target=lambda: came.append(queue.wait(60.0)))
    waiter.start()
    until(lambda: queue.idle == 1)
    queue.close()
    waiter.join(60)
    assert came == [True]
    assert queue.wait(60.0)
