"""The index keeps up, forgets what is removed, and begins anew when it must."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mail import structure
from runtime.clock import ManualClock
from runtime.sqlite import Database, DatabaseUnavailable
from storage.adapters.sqlite import search_build, search_index, search_source
from storage.adapters.sqlite.search_index import SearchIndex
from storage.adapters.sqlite.search_schema import FIELDS
from storage.model import BodyContains, HeaderContains, TextContains
from storage.search.document import field_mark


async def until(condition: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def ask(folder: Path, sql: str) -> list[Any]:
    conn = sqlite3.connect(folder / "search.db")
    try:
        return conn.execute(sql).fetchall()
    finally:
        conn.close()


async def test_lag_is_what_has_not_been_indexed(store: Any, letter: Any) -> None:
    clock = ManualClock(100.0)
    store.index = index = SearchIndex(store.folder / "other.db", store.database, clock)
    await index.open()
    await store.add(*[letter((), "one")] * 3)
    health = await index.lag()
    assert (health.lag, health.lag_seconds, health.error) == (3, 100.0, None)
    await index.catch_up()
    health = await index.lag()
    assert (health.lag, health.lag_seconds, health.error) == (0, 0.0, None)
    assert health.cpu_seconds > 0


async def test_the_background_task_follows(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CALM", 0.01)
    store.index.start()
    for n in range(3):
        await store.add(letter((), f"number{n}"))
        store.index.wake()

        async def caught_up() -> bool:
            return (await store.index.lag()).lag == 0

        await until(caught_up)
        assert len(await store.search(BodyContains(f"number{n}"))) == 1


async def test_a_full_page_does_not_wait(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CALM", 3600.0)
    monkeypatch.setattr(search_index, "DELAY", 3600.0)
    store.index.start()
    await asyncio.sleep(0)
    await store.add(letter((), "one"))
    store.index.wake(search_index.BACKLOG)

    async def caught_up() -> bool:
        return (await store.index.lag()).lag == 0

    await until(caught_up)


async def test_news_that_come_while_it_works_are_not_missed(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CALM", 0.01)
    monkeypatch.setattr(search_index, "POLL", 3600.0)
    write = store.index._write
    late = iter(range(3))

    async def while_another_comes(job: Any) -> Any:
        done = await write(job)
        # Its page has been read already.
        if next(late, None) is not None:
            await store.add(letter((), "another"))
            store.index.wake()
        return done

    store.index._write = while_another_comes
    await store.add(letter((), "first"))
    store.index.start()

    async def caught_up() -> bool:
        return (await store.index.lag()).lag == 0

    await until(caught_up)
    assert len(await store.search(BodyContains("another"))) == 3


async def test_a_stream_without_a_pause_is_indexed_after_the_delay(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CALM", 3600.0)
    monkeypatch.setattr(search_index, "DELAY", 0.05)
    store.index.start()
    await asyncio.sleep(0)

    async def caught_up() -> bool:
        store.index.wake()
        return (await store.index.lag()).lag == 0

    await store.add(letter((), "one"))
    await until(caught_up)


async def test_under_load_a_few_emails_wait_for_more(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_source, "PAGE_EMAILS", 2)
    write = store.index._write
    pages = 0

    async def while_another_comes(job: Any) -> Any:
        nonlocal pages
        pages += 1
        if pages == 2:
            await store.add(letter((), "four"))
        return await write(job)

    store.index._write = while_another_comes
    await store.add(letter((), "one"), letter((), "two"), letter((), "three"))
    await store.index._follow()
    assert (pages, (await store.index.lag()).lag) == (2, 1)
    assert len(await store.search(BodyContains("four"))) == 1


@pytest.mark.parametrize(("backlog", "after"), [(5, {0, 1, 2, 3}), (2, {0, 3})])
async def test_it_stands_back_while_storage_is_used(
    store: Any, letter: Any, monkeypatch: Any, backlog: int, after: set[int]
) -> None:
    monkeypatch.setattr(search_index, "BACKLOG", backlog)
    monkeypatch.setattr(search_source, "PAGE_EMAILS", 2)
    monkeypatch.setattr(search_source, "SHORT_PAGE", 2)
    write, pause = store.index._write, asyncio.sleep
    pages, waited = 0, set()

    async def while_storage_is_used(job: Any) -> Any:
        nonlocal pages
        pages += 1
        done = await write(job)
        await store.database.read(lambda conn: None)
        return done

    async def noted(seconds: float) -> None:
        waited.add(pages)
        await pause(seconds)

    store.index._write = while_storage_is_used
    monkeypatch.setattr(search_index.asyncio, "sleep", noted)
    await store.add(*[letter((), "one")] * 6)
    await store.index._follow()
    assert waited == after, "not while it is too far behind"
    assert (await store.index.lag()).lag == 0


async def test_storage_that_is_used_all_the_time_holds_it_up_for_a_while_only(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "GAP", 3600.0)
    monkeypatch.setattr(search_index, "GAP_DELAY", 0.05)
    await asyncio.wait_for(store.index._stand_back(search_index.GAP_DELAY), 30)


async def test_a_page_waits_where_somebody_comes(store: Any, letter: Any, monkeypatch: Any) -> None:
    numbers = await store.add(*[letter((), f"text {n}") for n in range(8)])
    write, waits = store.index._write, []

    async def while_somebody_comes(job: Any) -> Any:
        await store.database.read(lambda conn: None)
        monkeypatch.setattr(search_index, "GAP", 3600.0)
        return await write(job)

    def until_he_goes(seconds: float) -> bool:
        waits.append(seconds)
        monkeypatch.setattr(search_index, "GAP", 0.0)
        return False

    monkeypatch.setattr(search_index, "GAP", 0.0)
    monkeypatch.setattr(store.index, "_write", while_somebody_comes)
    monkeypatch.setattr(store.index._closing, "wait", until_he_goes)
    done = await store.index._round(gently=True)
    assert (done.done, done.behind) == (len(numbers), 0), "then all of it is done"
    assert len(waits) == 1
    assert 0 < waits[0] <= search_index.GAP_DELAY


async def test_a_page_that_waits_does_not_hold_up_the_end(store: Any, letter: Any, monkeypatch: Any) -> None:
    await store.add(letter((), "one"), letter((), "two"))
    write, waiting = store.index._write, threading.Event()
    wait = store.index._closing.wait

    async def while_somebody_comes(job: Any) -> Any:
        await store.database.read(lambda conn: None)
        for name in ("GAP", "GAP_DELAY"):
            monkeypatch.setattr(search_index, name, 3600.0)
        return await write(job)

    def noted(seconds: float) -> bool:
        waiting.set()
        return bool(wait(seconds))

    monkeypatch.setattr(search_index, "GAP", 0.0)
    monkeypatch.setattr(store.index, "_write", while_somebody_comes)
    monkeypatch.setattr(store.index._closing, "wait", noted)
    store.index.start()
    assert await asyncio.to_thread(waiting.wait, 30)
    await asyncio.wait_for(store.index.close(), 30)
    assert ask(store.folder, "SELECT count(*) FROM header") == [(1,)], "what was done by then is kept"


@pytest.mark.parametrize("backlog", [100, 1])
async def test_a_page_ends_where_somebody_stays(store: Any, letter: Any, monkeypatch: Any, backlog: int) -> None:
    monkeypatch.setattr(search_index, "BACKLOG", backlog)
    monkeypatch.setattr(search_index, "GAP_DELAY", 0.1)
    monkeypatch.setattr(search_source, "SHORT_PAGE", 3)
    numbers = await store.add(*[letter((("Subject", "here"),), f"text {n}") for n in range(8)], hand=True)
    write = store.index._write
    marks = []

    async def while_somebody_comes(job: Any) -> Any:
        await store.database.read(lambda conn: None)
        monkeypatch.setattr(search_index, "GAP", 3600.0)
        done = await write(job)
        marks.append(numbers.index(done.mark) + 1)
        return done

    store.index._write = while_somebody_comes
    monkeypatch.setattr(search_index, "GAP", 0.0)
    done = await store.index._round(gently=True)
    assert (marks, done.done, done.more) == ([1], 1, True), "what had begun was finished, and no more"
    assert len(store.index._handed) == 7
    assert await store.search(TextContains("here")) == await store.search(BodyContains("text"))
    await store.index._follow()
    # The first page is never known to be far behind.
    assert marks == ([1, 4, 7, 8] if backlog == 100 else [1, 4, 8]), "short ones then, unless too much waits"
    assert (await store.index.lag()).lag == 0
    assert len(await store.search(TextContains("here"))) == 8


async def test_what_a_page_that_ended_early_left_out_is_not_lost(store: Any, letter: Any) -> None:
    numbers = await store.add(*[letter((), f"word{n} word") for n in range(4)])
    # In the order of the keys the first email comes last.
    await store.database.write(
        lambda conn: conn.execute("UPDATE email SET account = 2 WHERE number = ?", (numbers[0],)).rowcount
    )
    page, _ = await store.database.read(lambda conn: search_source.above(conn, 0, 128))
    again = iter([True, False])
    added = await store.index._write(lambda conn: search_build.add(conn, page, {}, (), lambda: next(again)))
    assert (added.mark, added.left) == (numbers[0] - 1, 2)
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM header ORDER BY id") == [(numbers[1],), (numbers[2],)]
    await store.index.catch_up()
    assert (await store.index.lag()).lag == 0
    assert ask(store.folder, "SELECT count(*) FROM header") == [(4,)]
    assert ask(store.folder, "SELECT count(*) FROM trigram WHERE trigram MATCH 'WOR'") == [(4,)]


async def test_what_leaves_while_a_page_that_ended_early_has_it_does_not_come_back(store: Any, letter: Any) -> None:
    numbers = await store.add(*[letter((), f"word{n} word") for n in range(3)])
    await store.database.write(
        lambda conn: conn.execute("UPDATE email SET account = 2 WHERE number = ?", (numbers[0],)).rowcount
    )
    page, _ = await store.database.read(lambda conn: search_source.above(conn, 0, 128))
    await store.index._write(lambda conn: search_build.add(conn, page, {}, (), lambda: False))
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM header") == [(numbers[1],)]
    await store.index.remove([(1, numbers[1])])
    await store.index.catch_up()
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM header ORDER BY 1") == [(numbers[0],), (numbers[2],)]


async def test_what_delivery_hands_over_is_not_parsed_again(store: Any, letter: Any, monkeypatch: Any) -> None:
    await store.add(letter((("Subject", "handed"),), "text"), hand=True)

    def refuse(*_: object) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(structure, "parse", refuse)
    assert await store.search(TextContains("handed")) == [1]
    await store.index.catch_up()
    assert await store.search(TextContains("handed")) == [1]
    assert store.index._handed_octets == 0


async def test_what_is_handed_over_is_bounded_and_let_go(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "HANDED_OCTETS", 10)
    monkeypatch.setattr(search_index, "PART_OCTETS", 0)
    part = structure.parse(b"\r\n123")
    store.index.hand(1, b"12345678", part)
    store.index.hand(2, b"123", part)
    assert list(store.index._handed) == [1]
    store.index.hand(3, b"12", part)
    assert list(store.index._handed) == [1, 3]
    await store.index.catch_up()
    assert store.index._handed == {}
    assert store.index._handed_octets == 0


async def test_deleted_mail_leaves_the_index(store: Any, letter: Any) -> None:
    numbers = await store.add(letter((("Subject", "secret"),), "hidden words"), letter((), "other words"))
    await store.index.catch_up()
    await store.wipe(numbers[:1])
    for table in ("header", "body"):
        assert ask(store.folder, f"SELECT count(*) FROM {table}") == [(1,)]
    assert ask(store.folder, 'SELECT count(*) FROM trigram WHERE trigram MATCH \'"HID" OR "SEC"\'') == [(0,)]
    await store.index.close()
    conn = sqlite3.connect(store.folder / "search.db")
    conn.execute("INSERT INTO trigram (trigram) VALUES ('optimize')")
    conn.execute("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, 'trigram', 'row')")
    terms = {row[0] for row in conn.execute("SELECT term FROM temp.vocabulary")}
    conn.close()
    assert "ORD" in terms
    assert not terms & {"SEC", "ECR", "HID", "IDD"}


async def test_an_email_removed_while_its_page_is_on_its_way(store: Any, letter: Any) -> None:
    numbers = await store.add(letter((), "one words"), letter((), "two words"))
    write = store.index._write

    async def interrupted(job: Any) -> Any:
        store.index._write = write
        await store.wipe(numbers[:1])
        return await write(job)

    store.index._write = interrupted
    await store.index.catch_up()
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM header") == [(numbers[1],)]


async def test_an_email_removed_before_its_page_is_read(store: Any, letter: Any) -> None:
    """It is expunged, purged, and told to the index before the index has seen it, and gone from storage after."""
    numbers = await store.add(letter((), "one words"), letter((), "two words"), letter((), "three words"))
    await store.index.remove([(1, numbers[1])])
    await store.index.catch_up()
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM header") == [(numbers[0],), (numbers[2],)]
    assert store.index._removed == set()
    # Without a page in which they could come, they are forgotten too.
    await store.index.remove([(1, numbers[2] + 1)])
    await store.index.catch_up()
    assert store.index._removed == set()


async def test_a_removal_that_failed_is_made_up_for(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CALM", 0.01)
    numbers = await store.add(letter((), "one words"), letter((), "two words"))
    store.index.start()

    async def indexed(count: int) -> bool:
        return ask(store.folder, "SELECT count(*) FROM header") == [(count,)]

    await until(lambda: indexed(2))
    await until(lambda: _as_coroutine(store.index._checked))
    write = store.index._write

    async def unable(job: Any) -> Any:
        raise DatabaseUnavailable("not now")

    store.index._write = unable
    await store.wipe(numbers[:1])
    store.index._write = write
    store.index.wake()
    await until(lambda: indexed(1))


async def _as_coroutine(value: bool) -> bool:
    return value


async def test_what_is_handed_over_late_is_let_go(store: Any, letter: Any) -> None:
    """A page can have been read between a commit and the moment at which its messages are handed over."""
    await store.add(letter((), "early"))
    await store.index._follow()
    store.index.hand(1, b"\r\nearly", structure.parse(b"\r\nearly"))
    await store.add(letter((), "later"), hand=True)
    await store.index._follow()
    assert store.index._handed == {}
    assert store.index._handed_octets == 0


async def test_small_messages_of_many_parts_count_for_what_they_are(store: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "HANDED_OCTETS", 100_000)
    many = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 100
    store.index.hand(1, many, structure.parse(many))
    assert store.index._handed == {}
    for blob in range(1, 100):
        store.index.hand(blob, b"\r\n", structure.parse(b"\r\n"))
    assert len(store.index._handed) < 50


async def test_a_commit_that_was_not_heard_of(store: Any, letter: Any) -> None:
    await store.add(letter((), "one words"))
    write = store.index._write

    async def deaf(job: Any) -> Any:
        await write(job)
        raise DatabaseUnavailable("the answer was lost")

    store.index._write = deaf
    with pytest.raises(DatabaseUnavailable):
        await store.index.catch_up()
    store.index._write = write
    await store.add(letter((), "two words"))
    await store.index.catch_up()
    assert (await store.index.lag()).lag == 0
    assert len(await store.search(BodyContains("words"))) == 2


async def test_removals_that_were_lost_are_found_after_the_start(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_index, "CHECK_PAGE", 2)
    numbers = await store.add(*[letter((), f"text {n}") for n in range(5)])
    await store.index.catch_up()
    await store.wipe([numbers[0], numbers[3]], tell=False)
    assert await store.search(TextContains("text")) != []
    await store.reopen_index()
    store.index.start()

    async def clean() -> bool:
        return ask(store.folder, "SELECT count(*) FROM header") == [(3,)]

    await until(clean)
    assert len(await store.search(TextContains("text"))) == 3


async def test_rebuild(store: Any, letter: Any) -> None:
    await store.add(letter((), "one words"), letter((), "two words"))
    await store.index.catch_up()
    await store.index.rebuild()
    assert (await store.index.lag()).lag == 2
    assert len(await store.search(BodyContains("words"))) == 2
    await store.index.catch_up()
    health = await store.index.lag()
    assert (health.lag, health.error) == (0, None)
    assert len(await store.search(BodyContains("words"))) == 2


@pytest.mark.parametrize("indexed", [True, False])
async def test_fields_with_rows_of_their_own(store: Any, letter: Any, indexed: bool) -> None:
    head = (("From", "Ann"), ("To", "Bob"), ("To", "Cid"), ("Subject", ""), ("X-From", "Dan"), ("Reply-To", "Eve"))
    await store.add(letter(head, "Zoe"), letter((("Subject", "From: Ann"),), "To: Bob"))
    if indexed:
        await store.index.catch_up()
    for name, text, found in (
        ("From", "ann", 1),
        ("From", "dan", 0),
        ("To", "b", 1),
        ("to", "CID", 1),
        ("To", "eve", 0),
        ("To", "Bob\nCid", 0),
        ("Subject", "ann", 1),
        ("Subject", "", 2),
        ("To", "", 1),
        ("Cc", "", 0),
    ):
        assert len(await store.search(HeaderContains(name, text))) == found, (name, text)
    await store.wipe([1])
    assert ask(store.folder, "SELECT count(*) FROM field WHERE id & 0xffffffff = 1") == [(0,)]


def test_fields_with_rows_of_their_own_are_known_by_their_marks() -> None:
    names = ("From", "To", "Cc", "Bcc", "Subject")
    assert [FIELDS[field_mark(name) or b""] for name in names] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("damage", ["missing", "no database", "newer", "refolded", "ahead", "other", "left log"])
async def test_an_index_that_cannot_serve_is_begun_anew(store: Any, letter: Any, damage: str) -> None:
    await store.add(letter((), "some words"))
    await store.index.catch_up()
    path = store.folder / "search.db"
    log = path.with_name("search.db-wal").read_bytes()
    await store.index.close()
    statement = {
        "newer": "PRAGMA user_version = 99",
        "refolded": "UPDATE mark SET form = form + 1",
        "ahead": "UPDATE mark SET email = 1000",
        "other": "DROP TABLE mark",
    }.get(damage)
    if damage == "missing":
        path.unlink()
    elif damage == "left log":
        # It was deleted after a kill, which leaves the log behind.
        path.unlink()
        path.with_name("search.db-wal").write_bytes(log)
    elif statement is None:
        path.write_bytes(b"no database" * 1000)
    else:
        conn = sqlite3.connect(path)
        conn.execute(statement)
        conn.commit()
        conn.close()
    await store.reopen_index()
    health = await store.index.lag()
    assert health.lag == 1
    assert health.error is not None
    assert len(await store.search(BodyContains("words"))) == 1
    await store.index.catch_up()
    assert (await store.index.lag()).error is None
    assert len(await store.search(BodyContains("words"))) == 1


async def test_damage_met_at_a_question_is_answered_all_the_same(store: Any, letter: Any) -> None:
    await store.add(*[letter((), f"some words {n} " * 200) for n in range(50)])
    await store.index.catch_up()
    await store.index.close()
    path = store.folder / "search.db"
    size = path.stat().st_size
    with path.open("r+b") as file:
        # The first page stays: the file opens, and what it names is rubbish.
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    await store.reopen_index()
    assert len(await store.search(BodyContains("some words"))) == 50
    assert (await store.index.lag()).error is not None
    await store.index.catch_up()
    health = await store.index.lag()
    assert (health.lag, health.error) == (0, None)
    assert len(await store.search(BodyContains("some words"))) == 50


async def test_a_closed_index_is_scanned_around(store: Any, letter: Any) -> None:
    await store.add(letter((), "some words"))
    await store.index.catch_up()
    await store.index.close()
    assert len(await store.search(BodyContains("words"))) == 1
    await store.index.remove([(1, 1)])
    with pytest.raises(DatabaseUnavailable):
        await store.index._read(lambda conn: None)


async def test_a_storage_that_cannot_be_read_is_told(store: Any) -> None:
    broken = Database(store.folder / "broken.db", migrations=())
    await broken.open()
    await broken.close()
    index = SearchIndex(store.folder / "third.db", broken)
    await index.open()
    with pytest.raises(DatabaseUnavailable):
        await index.lag()
    await index.close()


@pytest.mark.parametrize("indexed", [True, False])
async def test_big_bodies_are_searched_whole(store: Any, letter: Any, indexed: bool) -> None:
    filler = "filler text of no importance. " * 20_000
    text = filler + "a needle at the very end"
    raw = b"MIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(text.encode())
    # A needle that lies across every border of the pieces, wherever they are.
    await store.add_raw([letter((), text)], [raw])
    if indexed:
        await store.index.catch_up()
        assert ask(store.folder, "SELECT length(text) FROM body") == [(len(text),)]
    for needle, held in (("very end", 1), ("importance. FILLER TEXT of no importance. filler", 1), ("xe", 0)):
        assert len(await store.search(BodyContains(needle))) == held
    for at in range(262_000, 262_300, 7):
        assert await store.search(BodyContains(text[at : at + 200])) != []


async def test_texts_over_the_bound_are_read_at_every_question(store: Any, letter: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(search_build, "TEXT_MAX", 1000)
    small, large = await store.add(letter((), "x" * 999 + "z"), letter((("Subject", "large"),), "y" * 1000 + "z"))
    await store.index.catch_up()
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM large") == [(large,)]
    assert ask(store.folder, "SELECT id & 0xFFFFFFFF FROM body") == [(small,)]
    assert len(await store.search(BodyContains("z"))) == 2
    assert len(await store.search(BodyContains("yz"))) == 1
    assert len(await store.search(HeaderContains("Subject", "LARGE"))) == 1
    await store.wipe([large])
    assert ask(store.folder, "SELECT count(*) FROM large") == [(0,)]


async def test_an_account_never_sees_another(store: Any, letter: Any) -> None:
    numbers = await store.add(letter((), "shared words"), letter((), "shared words"))
    await store.database.write(
        lambda conn: conn.execute("UPDATE email SET account = 2 WHERE number = ?", (numbers[0],)).rowcount
    )
    await store.index.catch_up()
    assert ask(store.folder, "SELECT id >> 32, id & 0xFFFFFFFF FROM header ORDER BY id") == [
        (1, numbers[1]),
        (2, numbers[0]),
    ]


async def test_pages_are_bounded_by_octets_and_number(store: Any, letter: Any, monkeypatch: Any) -> None:
    numbers = await store.add(*[letter((), "x" * 100)] * 5)
    size = (await store.entries())[0][3]
    monkeypatch.setattr(search_source, "PAGE_OCTETS", 2 * size)
    page, full = await store.database.read(lambda conn: search_source.above(conn, 0, 128))
    assert ([source.email for source in page], full) == (numbers[:2], True)
    page, full = await store.database.read(lambda conn: search_source.above(conn, numbers[2], 128))
    assert ([source.email for source in page], full) == (numbers[3:], False)
    page, covered = await store.database.read(lambda conn: search_source.of(conn, [numbers[0], 10**9, *numbers[1:]]))
    assert ([source.email for source in page], covered) == (numbers[:2], 3)
    monkeypatch.setattr(search_source, "PAGE_OCTETS", 1)
    page, covered = await store.database.read(lambda conn: search_source.of(conn, numbers))
    assert ([source.email for source in page], covered) == (numbers[:1], 1)
    monkeypatch.setattr(search_source, "PAGE_OCTETS", 10**9)
    page, full = await store.database.read(lambda conn: search_source.above(conn, 0, 3))
    assert (len(page), full) == (3, True)
    assert len(await store.search(BodyContains("xxx"))) == 5


_CRASHING = """
import asyncio, pathlib, sys
from runtime.sqlite import Database
from storage.adapters.sqlite import search_source
from storage.adapters.sqlite.schema import MIGRATIONS
from storage.adapters.sqlite.search_index import SearchIndex
from storage.adapters.sqlite.search_schema import FIELDS

async def main():
    search_source.PAGE_EMAILS = 5
    folder = pathlib.Path(sys.argv[1])
    database = Database(folder / "storage.db", migrations=MIGRATIONS)
    await database.open()
    index = SearchIndex(folder / "search.db", database)
    await index.open()
    print("ready", flush=True)
    while True:
        await index.catch_up()
        await index.remove([(1, n) for n in range(1, 200, 3)])
        await index.rebuild()

asyncio.run(main())
"""


@pytest.mark.crash
async def test_killed_at_any_moment_it_is_behind_but_never_wrong(store: Any, letter: Any) -> None:
    await store.add(*[letter((("Subject", f"subject{n}"),), f"body{n} " * 50) for n in range(200)])
    await store.index.close()
    uids = [entry[0] for entry in await store.entries()]
    for delay in (0.0, 0.03, 0.08, 0.15):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CRASHING, str(store.folder), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        while await process.stdout.readline() not in (b"ready\n", b""):
            continue
        await asyncio.sleep(delay)
        process.kill()
        await process.wait()
        await store.reopen_index()
        conn = sqlite3.connect(store.folder / "search.db")
        present = {row[0] for row in conn.execute("SELECT id & 0xFFFFFFFF FROM header")}
        bodies = {row[0] for row in conn.execute("SELECT id & 0xFFFFFFFF FROM body")}
        (mark,) = conn.execute("SELECT email FROM mark").fetchone()
        conn.execute("INSERT INTO trigram (trigram) VALUES ('integrity-check')")
        conn.close()
        assert present == bodies
        assert present >= {n for n in range(1, mark + 1) if n % 3 != 1}
        # What was removed has left for good: no mailbox would show it any more.
        for n in range(200):
            if (n + 1) % 3 != 1:
                assert await store.search(TextContains(f"body{n} ")) == [uids[n]], n
        await store.index.close()
    await store.index.open()
    await store.index.rebuild()
    await store.index.catch_up()
    for n in range(0, 200, 7):
        assert await store.search(HeaderContains("Subject", f"subject{n}")) != []
