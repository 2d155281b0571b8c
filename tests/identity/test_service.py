from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from identity.connect import connect
from identity.model import NewAccount, Origin, Role
from identity.port import Reason, Refused
from identity.service import IdentityService, ensure_first_run
from identity.settings import IdentitySettings
from tests.hurry import THOROUGH

D = "test.example"
HOME = Origin("127.0.0.1", "imap")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it, up to thirty seconds."""
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(0.005)


async def none_left(service: IdentityService) -> bool:
    return await service.identity.removed_accounts() == ()


class Mail:
    """Accounts' mail that goes in steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.asked: list[str] = []
        self.failing = False

    async def was_asked(self, times: int) -> bool:
        return len(self.asked) >= times

    async def purge(self, account: str) -> bool:
        self.asked.append(account)
        if self.failing:
            raise OSError("storage is away")
        return self.asked.count(account) >= self.steps


@pytest.fixture
async def service(tmp_path: Path, cheap: IdentitySettings) -> AsyncIterator[tuple[IdentityService, Mail]]:
    mail = Mail(steps=3)
    service = IdentityService(f"sqlite:{tmp_path}", cheap, purge=mail.purge)
    await service.start()
    yield service, mail
    await service.stop()


async def test_first_run(service: tuple[IdentityService, Mail]) -> None:
    made = await service[0].ensure_first_run(D)
    assert made is not None
    assert made.admin_password is not None
    assert made.admin_password not in repr(made)
    assert made.user_password not in repr(made)
    identity = service[0].identity
    assert (await identity.authenticate(made.admin, made.admin_password, HOME)).role is Role.ADMIN
    assert (await identity.authenticate(made.user, made.user_password, HOME)).role is Role.USER
    assert (made.admin, made.user) == (f"admin@{D}", f"user@{D}")
    assert await service[0].ensure_first_run(D) is None


async def test_first_run_with_a_given_password(service: tuple[IdentityService, Mail]) -> None:
    identity = service[0].identity
    with pytest.raises(Refused) as caught:
        await ensure_first_run(identity, D, "")
    assert caught.value.reason is Reason.BAD_PASSWORD
    assert await identity.accounts() == ()
    await identity.add_domain(D)
    made = await ensure_first_run(identity, D, "given")
    assert made is not None
    assert made.admin_password is None
    await identity.authenticate("admin", "given", HOME)


async def test_a_removed_account_is_purged_in_steps_and_forgotten(service: tuple[IdentityService, Mail]) -> None:
    runner, mail = service
    await runner.ensure_first_run(D)
    account = await runner.identity.find_account("user")
    await runner.identity.remove_account(account.id)
    await until(lambda: mail.was_asked(3))
    await until(lambda: none_left(runner))
    assert mail.asked == [account.id] * 3


async def test_a_purge_that_was_cut_short_goes_on_at_the_next_start(tmp_path: Path, cheap: IdentitySettings) -> None:
    mail = Mail(steps=2)
    mail.failing = True
    service = IdentityService(f"sqlite:{tmp_path}", cheap, purge=mail.purge)
    await service.start()
    await service.ensure_first_run(D)
    account = await service.identity.find_account("user")
    await service.identity.remove_account(account.id)
    await until(lambda: mail.was_asked(1))
    assert await service.identity.removed_accounts() == (account.id,)
    await service.drain()
    assert await service.identity.domain_exists(D)
    await service.stop()
    mail.failing = False
    again = IdentityService(f"sqlite:{tmp_path}", cheap, purge=mail.purge)
    await again.start()
    await until(lambda: none_left(again))
    await again.stop()
    with pytest.raises(RuntimeError):
        _ = again.identity


async def test_a_process_whose_turn_it_is_not_purges_nothing(tmp_path: Path, cheap: IdentitySettings) -> None:
    mail, asked, mine = Mail(steps=1), asyncio.Event(), False

    async def turn() -> bool:
        asked.set()
        return mine

    service = IdentityService(f"sqlite:{tmp_path}", cheap, purge=mail.purge, turn=turn)
    await service.start()
    await service.ensure_first_run(D)
    # Without anything to purge nobody asks.
    assert not asked.is_set()
    account = await service.identity.find_account("user")
    await service.identity.remove_account(account.id)
    await asyncio.wait_for(asked.wait(), 30)
    assert await service.identity.removed_accounts() == (account.id,)
    assert not mail.asked
    mine = True
    await service.identity.set_password((await service.identity.find_account("admin")).id, "another password")
    await until(lambda: none_left(service))
    await service.stop()


async def test_who_waits_for_changes_is_let_go_at_the_end(tmp_path: Path, cheap: IdentitySettings) -> None:
    identity = await connect(f"sqlite:{tmp_path}", cheap)
    seq = (await identity.changes_since(0, 0)).seq
    waiting = asyncio.create_task(identity.changes_since(seq, 300))
    await asyncio.sleep(0.02)
    await identity.close()
    result = (await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), 30))[0]
    assert not isinstance(result, TimeoutError)


async def test_connect_knows_its_schemes(tmp_path: Path, cheap: IdentitySettings) -> None:
    folder = tmp_path / "a folder"
    for url in (f"sqlite:{folder}", f"sqlite://{folder}"):
        identity = await connect(url.replace(" ", "%20"), cheap)
        await identity.close()
        assert (folder / "identity.db").exists()
    with pytest.raises(ValueError, match="mysql"):
        await connect("mysql://x", cheap)


async def test_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures for whoever reads them: of this process's own time, which no other process takes. What is asserted is
    which of these hash, and which ask the database."""
    real: Any = await connect(f"sqlite:{tmp_path / 'real'}", IdentitySettings(default_domain=D))
    await real.add_domain(D)
    count = 40 if THOROUGH else 2
    begin = time.process_time()
    await real.import_accounts([NewAccount(f"u{n}@{D}", f"pw {n}") for n in range(count)])
    import_rate = count / (time.process_time() - begin)
    await real.authenticate("u1", "pw 1", HOME)

    await real.resolve(f"u1@{D}")
    done: Counter[str] = Counter()

    def count_calls(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        async def counted(*args: Any, **kwargs: Any) -> Any:
            done[name] += 1
            return await call(*args, **kwargs)

        setattr(owner, name, counted)

    count_calls(real._passwords, "verify")
    count_calls(real, "_read")
    times = 500 if THOROUGH else 100

    async def each(call: Callable[[], Awaitable[object]]) -> float:
        done.clear()
        begin = time.process_time()
        for _ in range(times):
            await call()
        return (time.process_time() - begin) / times * 1e6

    warm = await each(lambda: real.authenticate("u1", "pw 1", HOME))
    assert done["verify"] == 0
    cached = await each(lambda: real.resolve(f"u1@{D}"))
    assert done["_read"] == 0
    numbers = iter(range(1000))
    cold = await each(lambda: real.resolve(f"u1+{next(numbers)}@{D}"))
    assert done["_read"] == times
    await real.close()
    with capsys.disabled():
        print(
            f"\nimport in clear {import_rate:.0f}/s, warm authenticate {warm:.0f} µs,"
            f" resolve {cached:.1f} µs cached and {cold:.0f} µs not"
        )
