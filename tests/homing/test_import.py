"""`homing import` and `homing export`: what is brought, what a second pass does, and what kills on the way leave."""

from __future__ import annotations

import asyncio
import hashlib
import imaplib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.exceptions import MessageError
from connectors.pull.maildir import MaildirSource
from connectors.pull.mbox import MboxSource
from connectors.pull.noted import NAME
from connectors.pull.source import Folder, Source
from homing.cli.migrate import Plain
from homing.exporting.export import export
from homing.exporting.forms import MaildirForm
from homing.exporting.index import IndexRefused
from homing.importing.bring import Done, Import
from homing.importing.check import Outcome, check
from homing.importing.ledger import Ledger, open_ledger
from mail import flags
from runtime.ids import new_id
from storage.adapters.sqlite.adapter import SqliteStorage
from storage.model import (
    ANNOTATION_OCTETS,
    INLINE_MAX,
    SYSTEM,
    Appended,
    FlagMode,
    MailboxRef,
    NewMessage,
    Operation,
    StagedBlob,
    Want,
)
from storage.port import Storage
from tests.reading import rows_of

from .conftest import Homing, Up

ODD = (
    b"",
    b"no header, no line end",
    b"Subject: bare\n\nFrom here\n>From there\r\n",
    b"Status: mine\r\nX-Keywords: mine\r\n\r\n\r\nFrom x Thu Jan  1 00:00:00 1970\r\n",
    b" begins with a blank\r\n\r\n",
    b"Subject: ends with CR\r\n\r\n\r",
    b"Message-ID: <same@x>\r\n\r\nsame\r\n",
    b"Message-ID: <same@x>\r\n\r\nsame\r\n",
    b"Subject: long\r\n\r\n" + b"From the long one\r\n" * 40_000,
    b"Message-ID: <" + b"\xff" * 9 + b"@x>\r\n\r\n\xfe\xff\r\n",
)


def op() -> Operation:
    return Operation(new_id(), SYSTEM)


async def filled(storage: Storage, account: str) -> None:
    """An account with all that an export must keep."""
    await storage.open_account(op(), account)
    await storage.create_mailbox(op(), account, "Wörk/a.b/.hidden %")
    await storage.subscribe(op(), account, "Wörk/a.b/.hidden %", True)
    for name in ("INBOX", "Sent", "Wörk/a.b/.hidden %"):
        ref = (await storage.mailbox(account, name)).ref
        for number, octets in enumerate(ODD):
            content: bytes | StagedBlob = octets
            if len(octets) > INLINE_MAX:
                content = await storage.stage(_sliced(octets))
            words = (("work", "$Forwarded")[: number % 3],)
            new = NewMessage(content, number % (flags.ALL + 1), *words, 1_600_000_000 + number)
            await storage.append(op(), ref, [new], None)


async def _sliced(octets: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(octets), INLINE_MAX):
        yield octets[at : at + INLINE_MAX]


async def everything(storage: Storage, account: str) -> dict[str, list[Any]]:
    """By mailbox: flags, keywords, date, size and digest of each message, in order of uid."""
    found: dict[str, list[Any]] = {}
    for mailbox in (await storage.list_mailboxes(account)).mailboxes:
        rows: list[Any] = []
        after = 0
        while page := await rows_of(storage, mailbox.ref, ((after + 1, 0xFFFF_FFFF),), Want.SIZE):
            for row in page:
                digest = hashlib.sha256()
                for at in range(0, row.size or 0, INLINE_MAX):
                    digest.update(await storage.read(account, row.entry.email, at, at + INLINE_MAX))
                entry = row.entry
                rows.append((entry.flags, entry.keywords, entry.internaldate, row.size, digest.hexdigest()))
            after = page[-1].entry.uid
        found[mailbox.name] = rows
    return found


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    (tmp_path / "store").mkdir()
    made = SqliteStorage(tmp_path / "store")
    await made.open(index=False)
    yield made
    await made.close()


async def brought(
    storage: Storage,
    account: str,
    source: Source,
    data: Path,
    ledger: type[Ledger] = Ledger,
    **more: Any,
) -> tuple[Done, Outcome]:
    await storage.open_account(op(), account)
    opened = await open_ledger(data, account, source.name)
    opened.__class__ = ledger
    try:
        work = Import(storage, account, None, source, opened, Plain(), **more)
        plan = await work.plan()
        return await work.run(plan), await check(storage, account, source, opened, plan, Plain())
    finally:
        await opened.close()


@pytest.mark.parametrize(("form", "make"), [("maildir", MaildirSource), ("mbox", MboxSource)])
async def test_export_and_import_again_are_equal(
    tmp_path: Path, storage: SqliteStorage, form: str, make: Callable[[Path], Source]
) -> None:
    await filled(storage, "ann")
    summary = await export(storage, "ann", "ann@example.org", form, tmp_path / "out", Plain())
    assert (summary.messages, summary.lost) == (3 * len(ODD), 0)
    done, outcome = await brought(storage, "bob", make(tmp_path / "out"), tmp_path / "data")
    assert (done.brought, outcome.problems) == (3 * len(ODD), [])
    old, new = await everything(storage, "ann"), await everything(storage, "bob")
    name = "Wörk/a.b/.hidden %"
    # A source's messages have no order but that of their names.
    assert {name: sorted(rows) for name, rows in new.items()} == {name: sorted(rows) for name, rows in old.items()}
    if form == "maildir":
        assert name in (await storage.list_mailboxes("bob")).subscriptions


@pytest.mark.parametrize(("form", "name"), [("mbox", "INBOX.mbox"), ("eml", "INBOX/.1.part")])
async def test_nothing_is_written_through_a_link(tmp_path: Path, storage: SqliteStorage, form: str, name: str) -> None:
    await filled(storage, "ann")
    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.write_bytes(b"precious")
    (out / name).parent.mkdir(parents=True)
    begun = {"export": 1, "account": "ann", "address": "ann@example.org", "form": form}
    (out / NAME).write_text(json.dumps(begun) + "\n")
    (out / name).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        await export(storage, "ann", "ann@example.org", form, out, Plain())
    assert victim.read_bytes() == b"precious"


LONG = ("n" * 250, "%" * 100, "й" * 80, "/".join(["Папка"] * 30), "/".join(["Папка"] * 29 + ["Другая"]))


@pytest.mark.parametrize("form", ["maildir", "mbox", "eml"])
async def test_names_that_no_file_can_have(tmp_path: Path, storage: SqliteStorage, form: str) -> None:
    await storage.open_account(op(), "ann")
    for name in LONG:
        mailbox = await storage.create_mailbox(op(), "ann", name, None)
        await storage.append(op(), mailbox.ref, [NewMessage(name.encode(), 0, (), 1_500_000_000)], None)
    await export(storage, "ann", "ann@example.org", form, tmp_path / "out", Plain())
    if form == "eml":
        assert len(list((tmp_path / "out").rglob("*.eml"))) == len(LONG)
        return
    source = MaildirSource(tmp_path / "out") if form == "maildir" else MboxSource(tmp_path / "out")
    _, outcome = await brought(storage, "bob", source, tmp_path / "data")
    assert outcome.problems == []
    old, new = await everything(storage, "ann"), await everything(storage, "bob")
    assert {name: new[name] for name in LONG} == {name: old[name] for name in LONG}
    assert all(len(old[name]) == 1 for name in LONG)


@pytest.mark.parametrize(("form", "make"), [("maildir", MaildirSource), ("mbox", MboxSource)])
async def test_annotations_come_along(
    tmp_path: Path, storage: SqliteStorage, form: str, make: Callable[[Path], Source]
) -> None:
    await filled(storage, "ann")
    names = ("INBOX", "Wörk/a.b/.hidden %")
    for number, name in enumerate(names):
        values = {"/shared/comment": f"{number} ü".encode(), "/private/vendor/x": b"\xff\0%d" % number}
        await storage.set_annotations(Operation(new_id(), "ann"), (await storage.mailbox("ann", name)).ref, values)
    await storage.set_annotations(Operation(new_id(), "ann"), MailboxRef("ann", ""), {"/private/comment": b"mine"})
    out = tmp_path / "out"
    await export(storage, "ann", "ann@example.org", form, out, Plain())
    await storage.open_account(op(), "bob")
    inbox = (await storage.mailbox("bob", "INBOX")).ref
    # what was set here stays
    await storage.set_annotations(Operation(new_id(), "bob"), inbox, {"/shared/comment": b"here"})
    for run in ("first", "second"):
        await brought(storage, "bob", make(out), tmp_path / run)
        found = {
            mailbox.name: {one.entry: one.value for one in await storage.annotations([mailbox.ref])}
            for mailbox in (await storage.list_mailboxes("bob")).mailboxes
        }
        assert found["INBOX"] == {"/shared/comment": b"here", "/private/vendor/x": b"\xff\x000"}
        hidden = next(values for name, values in found.items() if name.startswith("Wörk/a.b/"))
        assert hidden == {"/shared/comment": "1 ü".encode(), "/private/vendor/x": b"\xff\x001"}
        (own,) = await storage.annotations([MailboxRef("bob", "")])
        assert (own.entry, own.value) == ("/private/comment", b"mine")


async def test_an_annotation_that_cannot_be_had_keeps_no_other_out(
    tmp_path: Path, storage: SqliteStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    class Annotated(MaildirSource):
        def annotations(self, folder: Folder | None) -> Mapping[str, bytes]:
            if folder is None:
                raise MessageError("The server does not say.")
            return {"/shared/long": b"x" * (ANNOTATION_OCTETS + 1), "/shared/comment": b"here"}

    done, outcome = await brought(storage, "bob", Annotated(maildir(tmp_path / "m", 2)), tmp_path / "data")
    assert (done.brought, outcome.count) == (2, 0)
    (one,) = await storage.annotations([(await storage.mailbox("bob", "INBOX")).ref])
    assert (one.entry, one.value) == ("/shared/comment", b"here")
    told = capsys.readouterr().err
    assert "The account: its annotations are not brought. The server does not say." in told
    assert "INBOX: the annotation /shared/long is not brought." in told


async def test_eml_and_the_index(tmp_path: Path, storage: SqliteStorage) -> None:
    await filled(storage, "ann")
    await export(storage, "ann", "ann@example.org", "eml", tmp_path / "out", Plain())
    lines = [json.loads(line) for line in (tmp_path / "out" / NAME).read_text("utf-8").splitlines()]
    assert lines[0]["address"] == "ann@example.org"
    assert {
        "name": "Sent",
        "folder": "Sent",
        "special_use": "\\Sent",
        "subscribed": True,
        "annotations": {},
    } in lines[0]["mailboxes"]
    assert lines[-1] == {"end": True, "messages": 30, "octets": sum(map(len, ODD)) * 3}
    for line in lines[1:-1]:
        octets = (tmp_path / "out" / line["file"]).read_bytes()
        assert hashlib.sha256(octets).hexdigest() == line["sha256"]
        assert octets == ODD[line["uid"] - 1]
        assert os.stat(tmp_path / "out" / line["file"]).st_mtime == line["internaldate"]
    assert lines[2]["keywords"] == ["work"]
    assert lines[2]["flags"] == ["\\Seen"]
    with pytest.raises(IndexRefused, match="whole"):
        await export(storage, "ann", "ann@example.org", "eml", tmp_path / "out", Plain())
    with pytest.raises(IndexRefused, match="not empty"):
        await export(storage, "ann", "ann@example.org", "eml", tmp_path, Plain())


class Killed(Exception):
    pass


@pytest.mark.parametrize("form", ["maildir", "mbox", "eml"])
async def test_an_export_that_was_killed_goes_on(
    tmp_path: Path, storage: SqliteStorage, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(storage, "ann")
    await export(storage, "ann", "ann@example.org", form, tmp_path / "whole", Plain())
    for at in (1, 7, 9, 8):
        with monkeypatch.context() as patched:
            _kill_in_write(patched, at)
            with pytest.raises(Killed):
                await export(storage, "ann", "ann@example.org", form, tmp_path / "out", Plain())
        with (tmp_path / "out" / NAME).open("ab") as index:
            index.write(b'{"mailbox":"INB')
    await storage.open_account(op(), "bob")
    with pytest.raises(IndexRefused, match="another account"):
        await export(storage, "bob", "bob@example.org", form, tmp_path / "out", Plain())
    await export(storage, "ann", "ann@example.org", form, tmp_path / "out", Plain())
    assert _files(tmp_path / "out") == _files(tmp_path / "whole")


def _kill_in_write(patched: pytest.MonkeyPatch, at: int) -> None:
    """At the piece of that number the process is no more."""
    from homing.exporting import export as module

    pieces = module._pieces
    seen = 0

    async def killing(*given: Any) -> AsyncIterator[bytes]:
        nonlocal seen
        async for piece in pieces(*given):
            seen += 1
            yield piece[:5]
            if seen > at:
                raise Killed
            yield piece[5:]

    patched.setattr(module, "_pieces", killing)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "/tmp/" not in path.as_posix() and not path.name.endswith(".part")
    }


class Forgetful:
    """A store that has forgotten all operations: an hour has gone by. `kill` says at which append, and on which side
    of it, the process is no more."""

    def __init__(self, storage: Storage, kill: tuple[int, str]) -> None:
        self._storage = storage
        self._kill = kill
        self._appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def append(self, _op: Operation, ref: MailboxRef, messages: Any, quota: int | None) -> Appended:
        self._appends += 1
        if self._kill == (self._appends, "before"):
            raise Killed
        done = await self._storage.append(op(), ref, messages, quota)
        if self._kill == (self._appends, "after"):
            raise Killed
        return done


def maildir(path: Path, count: int) -> Path:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True)
    for number in range(count):
        name = path / "cur" / f"{number:06}.x:2,{'S' if number % 2 else ''}"
        # Some are the same but for their place.
        name.write_bytes(b"Message-ID: <%d@x>\n\n" % (number // 2 * 2) + b"text\n" * (number // 2 % 7))
        os.utime(name, (1_500_000_000, 1_500_000_000))
    return path


async def test_kills_before_and_after_each_append_double_nothing(
    tmp_path: Path, storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homing.importing.bring.BATCH_MESSAGES", 7)
    source = MaildirSource(maildir(tmp_path / "m", 60))
    for number, side in ((1, "before"), (1, "after"), (2, "after"), (1, "before"), (1, "after"), (3, "after")):
        forgetful: Any = Forgetful(storage, (number, side))
        with pytest.raises(Killed):
            await brought(forgetful, "ann", source, tmp_path / "data")
    done, outcome = await brought(Forgetful(storage, (0, "")), "ann", source, tmp_path / "data")  # type: ignore[arg-type]
    assert outcome.problems == []
    assert 0 < done.brought < 60
    rows = (await everything(storage, "ann"))["INBOX"]
    assert len(rows) == 60
    assert sum(row[0] == flags.SEEN for row in rows) == 30
    again, _ = await brought(storage, "ann", source, tmp_path / "data")
    assert (again.brought, again.changed) == (0, 0)


async def test_the_same_operation_while_the_store_remembers(tmp_path: Path, storage: SqliteStorage) -> None:
    """The ledger's last word is lost and the mailbox was emptied: the store's first answer counts, nothing comes
    back."""
    source = MaildirSource(maildir(tmp_path / "m", 10))

    class Dying(Ledger):
        async def finish(self, folder: int, brought: Any) -> None:
            raise Killed

    with pytest.raises(Killed):
        await brought(storage, "ann", source, tmp_path / "data", Dying)
    inbox = (await storage.mailbox("ann", "INBOX")).ref
    await storage.move(op(), inbox, ((1, 10),), "Archive")
    done, outcome = await brought(storage, "ann", source, tmp_path / "data")
    assert outcome.count == 10
    assert "no longer here" in outcome.problems[0]
    found = await everything(storage, "ann")
    assert (len(found["INBOX"]), len(found["Archive"]), done.brought) == (0, 10, 10)


async def test_a_second_pass_brings_what_is_new_and_changed(tmp_path: Path, storage: SqliteStorage) -> None:
    path = maildir(tmp_path / "m", 6)
    source = MaildirSource(path)
    await brought(storage, "ann", source, tmp_path / "data")
    inbox = (await storage.mailbox("ann", "INBOX")).ref
    # Here one is flagged, there it is read; another is read here; the mailbox has another name.
    await storage.store_flags(op(), inbox, ((1, 1),), FlagMode.ADD, flags.FLAGGED, ("here",))
    await storage.store_flags(op(), inbox, ((3, 3),), FlagMode.ADD, flags.SEEN)
    (path / "cur" / "000000.x:2,").rename(path / "cur" / "000000.x:2,RSa")
    (path / "cur" / "000001.x:2,S").rename(path / "cur" / "000001.x:2,")
    (path / "dovecot-keywords").write_text("0 there\n")
    (path / "new" / "000009.x").write_bytes(b"Subject: new\n\n")
    done, outcome = await brought(storage, "ann", source, tmp_path / "data")
    assert (done.brought, done.changed, outcome.count) == (1, 2, 0)
    assert [row.other_flags for row in outcome.rows] == [2]
    rows = (await everything(storage, "ann"))["INBOX"]
    assert [row[:2] for row in rows] == [
        (flags.SEEN | flags.ANSWERED | flags.FLAGGED, ("here", "there")),
        (0, ()),
        (flags.SEEN, ()),
        (flags.SEEN, ()),
        (0, ()),
        (flags.SEEN, ()),
        (0, ()),
    ]


async def test_a_folder_whose_name_is_not_composed(tmp_path: Path, storage: SqliteStorage) -> None:
    class Decomposed(MaildirSource):
        """As a file system may give names."""

        def folders(self) -> list[Folder]:
            return [replace(folder, name="Cafe\u0301") for folder in super().folders()]

    source = Decomposed(maildir(tmp_path / "m", 2))
    done, _ = await brought(storage, "ann", source, tmp_path / "data")
    assert done.brought == 2
    assert (await storage.mailbox("ann", "Caf\u00e9")).messages == 2
    # another ledger, which knows nothing of the first pass
    done, outcome = await brought(storage, "ann", source, tmp_path / "other")
    assert not done.refused
    assert [row.mailbox for row in outcome.rows] == ["Caf\u00e9"]


async def test_a_mailbox_that_was_renamed_or_deleted_here(tmp_path: Path, storage: SqliteStorage) -> None:
    path = maildir(tmp_path / "m", 1)
    maildir(path / ".Work", 3)
    source = MaildirSource(path)
    await brought(storage, "ann", source, tmp_path / "data")
    await storage.rename_mailbox(op(), "ann", "Work", "Labour")
    done, outcome = await brought(storage, "ann", source, tmp_path / "data")
    assert (done.brought, outcome.count, outcome.rows[1].mailbox) == (0, 0, "Labour")
    await storage.delete_mailbox(op(), "ann", "Labour")
    done, outcome = await brought(storage, "ann", source, tmp_path / "data")
    assert (done.brought, outcome.count, outcome.rows[1].mailbox) == (3, 0, "Work")


def _added(homing: Homing, *addresses: str) -> None:
    homing("domain", "add", "example.org")
    for address in addresses:
        homing("user", "add", address, "--generate")


def test_the_commands_with_the_server_stopped(tmp_path: Path, homing: Homing) -> None:
    path = maildir(tmp_path / "m", 5)
    _added(homing, "ann@example.org")
    arguments = ("import", "ann@example.org", "--from", f"maildir:{path}")
    looked = homing(*arguments, "--dry-run")
    assert "INBOX" in looked.stdout
    assert not list((tmp_path / "data").glob("import/*.db"))
    (path / "new" / "9.x").write_bytes(b"Subject: nul\n\n\0\n")
    told = homing(*arguments, status=1).stdout
    assert "was not taken: The message holds NUL octets." in told
    assert "Brought 5 messages" in told
    (path / "new" / "9.x").unlink()
    assert "All is the same" in homing(*arguments).stdout
    homing("user", "quota", "ann@example.org", "1 KiB")
    (path / "new" / "8.x").write_bytes(b"Subject: x\n\n" + b"x" * 2000)
    assert "quota" in homing(*arguments, status=1).stderr
    homing("user", "quota", "ann@example.org")
    assert "Brought 1 message" in homing(*arguments).stdout
    for place, status, words in (
        ("maildir:nowhere", 2, "no directory"),
        ("imap://ann:secret@127.0.0.1", 2, "leave it out"),
        ("imap://ann@127.0.0.1:1", 69, "Check the place, and that the server runs. Then run it again, it goes on"),
    ):
        done = homing("import", "ann@example.org", "--from", place, "--password-stdin", stdin="x\n", status=status)
        assert words in done.stderr
        assert "secret" not in done.stderr
    assert "no terminal" in homing("import", "ann@example.org", "--from", "imap://a@127.0.0.1", status=2).stderr
    assert "homing user list" in homing("import", "eve@example.org", "--from", f"maildir:{path}", status=1).stderr
    assert "6 messages" in homing("export", "ann@example.org", "--to", f"eml:{tmp_path}/out").stdout
    assert "is whole" in homing("export", "ann@example.org", "--to", f"eml:{tmp_path}/out", status=1).stderr
    assert "no place" in homing("export", "ann@example.org", "--to", "zip:x", status=2).stderr


def test_the_commands_with_the_server_running(tmp_path: Path, homing: Homing, start: Callable[..., Up]) -> None:
    path = maildir(tmp_path / "m", 5)
    long = b"Subject: long\r\n\r\n" + b"0123456789\r\n" * 60_000
    (path / "cur" / "long:2,").write_bytes(long)
    start()
    _added(homing, "ann@example.org")
    assert "All is the same" in homing("import", "ann@example.org", "--from", f"maildir:{path}").stdout
    homing("export", "ann@example.org", "--to", f"eml:{tmp_path}/out")
    assert [one.read_bytes() for one in (tmp_path / "out" / "INBOX").iterdir() if one.stat().st_size > 1000] == [long]
    with sqlite3.connect(next((tmp_path / "data" / "import").glob("*.db"))) as ledger:
        assert ledger.execute("SELECT count(*) FROM message").fetchone() == (6,)
    ledger.close()


def test_annotations_come_over_imap(homing: Homing, start: Callable[..., Up], monkeypatch: pytest.MonkeyPatch) -> None:
    for command in ("SETMETADATA", "GETMETADATA"):
        monkeypatch.setitem(imaplib.Commands, command, ("AUTH",))
    port = start().port("IMAP")
    _added(homing, "ann@example.org", "bob@example.org")

    def signed_in(address: str) -> imaplib.IMAP4:
        homing("user", "passwd", address, "--password-stdin", stdin="correct horse\n")
        client = imaplib.IMAP4("127.0.0.1", port)
        client.login(address, "correct horse")
        return client

    def noted(client: imaplib.IMAP4) -> dict[str, list[Any]]:
        found = {}
        for name in ("INBOX", "Sent", "Drafts", '""'):
            assert client.xatom("GETMETADATA", name, "(DEPTH infinity)", "(/shared /private)")[0] == "OK"
            found[name] = client.response("METADATA")[1]
        return found

    with signed_in("ann@example.org") as ann:
        for name, entry, value in (
            ("INBOX", "/shared/vendor/kolab/folder-type", '"mail.inbox"'),
            ("INBOX", "/private/comment", '"it was \\"hers\\""'),
            ("Sent", "/shared/comment", '"what went out"'),
            ('""', "/private/comment", '"of all"'),
        ):
            assert ann.xatom("SETMETADATA", name, f"({entry} {value})")[0] == "OK"
        there = noted(ann)
    assert [bool(value[0]) for value in there.values()] == [True, True, False, True]
    place = f"imap://ann%40example.org@127.0.0.1:{port}"
    untrusted = homing("import", "bob@example.org", "--from", place, "--password-stdin", stdin="x\n", status=69)
    assert "name its certificate in --ca-file; --no-verify turns the check off" in untrusted.stderr
    told = homing(
        *("import", "bob@example.org", "--from", place, "--password-stdin", "--no-verify"), stdin="correct horse\n"
    )
    assert "All is the same" in told.stdout
    with signed_in("bob@example.org") as bob:
        assert noted(bob) == there


async def test_one_import_at_a_time(tmp_path: Path, homing: Homing) -> None:
    path = maildir(tmp_path / "m", 1)
    await asyncio.to_thread(_added, homing, "ann@example.org")
    command = ("import", "ann@example.org", "--from", f"maildir:{path}")
    await asyncio.to_thread(homing, *command)
    (name,) = (one.stem for one in (tmp_path / "data" / "import").glob("*.db"))
    from runtime.admin import FolderLock

    with FolderLock(tmp_path / "data" / "import", name):
        told = await asyncio.to_thread(lambda: homing(*command, status=69))
    assert "in use by process" in told.stderr


def test_more_keywords_than_a_maildir_has_letters(tmp_path: Path) -> None:
    form = MaildirForm(tmp_path)
    assert form._name(tuple(f"k{number}" for number in range(26))) == 0
    assert form._name(("k3", "one", "two")) == 2
