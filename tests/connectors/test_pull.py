"""Sources of mail: Gmail's labels over IMAP, layouts of Maildir, mbox files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.exceptions import ConfigurationError, ConnectionError, MessageError
from connectors.pull import imap as pulling
from connectors.pull.imap import ImapSource
from connectors.pull.maildir import MaildirSource
from connectors.pull.mbox import MboxSource
from connectors.pull.places import open_source
from connectors.pull.source import PIECE, Folder, Item, Source, special_use
from connectors.reading import Server
from connectors.signin import AccessToken, Password
from mail import flags
from tests.connectors.certs import Certs
from tests.connectors.imapserver import ImapServer
from tests.live import free_ports

RAW = b"Message-ID: <one@x.example>\r\nSubject: one\r\n\r\ntext\r\n"


def items(source: Source, folder: Folder) -> list[Item]:
    return [item for page in source.items(folder) for item in page]


@pytest.fixture
def source(imap: ImapServer, certs: Certs) -> Iterator[ImapSource]:
    server = Server("127.0.0.1", imap.port, 10.0, ca_file=str(certs.ca))
    made = ImapSource(server, Password("alice@test.example", "correct horse"))
    yield made
    made.close()


def test_the_labels_of_gmail(imap: ImapServer, source: ImapSource) -> None:
    imap.capabilities += ["X-GM-EXT-1", "NAMESPACE"]
    boxes = {
        "[Gmail]/All Mail": "\\All",
        "[Gmail]/Sent Mail": "\\Sent",
        "[Gmail]/Starred": "\\Flagged",
        "Work/Caf&AOk-": "",
        "Others/bob": "",
    }
    imap.mailboxes = {"INBOX": [], **{name: [] for name in boxes}}
    imap.attributes = boxes
    imap.subscribed = ["Work/Caf&AOk-"]
    inboxed = imap.add(RAW, "\\Seen", "$Forwarded", labels='"\\\\Important" "\\\\Starred" "Work/Caf&AOk-"')
    imap.add(RAW, mailbox="[Gmail]/All Mail", labels='"\\\\Inbox"')
    imap.add(RAW, mailbox="[Gmail]/All Mail", labels='"\\\\Sent" "\\\\Important"')
    imap.add(RAW, mailbox="[Gmail]/All Mail", labels='"Work/Caf&AOk-"')
    archived = imap.add(RAW, mailbox="[Gmail]/All Mail", labels='"\\\\Important"')
    hidden = imap.add(RAW, mailbox="[Gmail]/All Mail", labels='"Not shown"')
    folders = {folder.name: folder for folder in source.folders()}
    assert [(one.name, one.special_use, one.subscribed) for one in folders.values()] == [
        ("INBOX", None, True),
        ("Work/Café", None, True),
        ("[Gmail]/Sent Mail", "\\Sent", False),
        ("[Gmail]/All Mail", "\\Archive", False),
    ]
    assert len(source.notes) == 2
    (one,) = items(source, folders["INBOX"])
    assert (one.key, one.flags, one.keywords) == (str(inboxed), flags.SEEN, ("$Forwarded", "$Important"))
    left = items(source, folders["[Gmail]/All Mail"])
    assert [(item.key, item.keywords) for item in left] == [
        (str(archived), ("$Important",)),
        (str(hidden), ("Not_shown",)),
    ]
    assert source.load(folders["INBOX"], [one, one._replace(key="9999")]) == [RAW, None]
    assert not any(command.startswith(("SELECT", "UID STORE")) for command in imap.commands)


def test_what_is_noted_of_mailboxes(imap: ImapServer, source: ImapSource) -> None:
    imap.mailboxes = {"INBOX": [], "Caf&AOk-": [], "Other": []}
    inbox, cafe, other = source.folders()
    assert source.annotations(inbox) == {}, "a server without METADATA"
    assert not any(command.startswith("GETMETADATA") for command in imap.commands)
    source.close()
    imap.capabilities.append("METADATA")
    imap.metadata = {
        "INBOX": b'(/shared/comment "123" /Private/Vendor/X {4}\r\na)\r\n /private/gone NIL'
        b' /private/specialuse "\\\\Sent"'
        b' /shared/vendor/cmu/cyrus-imapd/size "77" /private/nul ~{3}\r\n\xff\0" /shared/empty "")',
        "Caf&AOk-": b"",
        "": b'(/private/comment "mine")',
    }
    assert source.annotations(inbox) == {
        "/shared/comment": b"123",
        "/private/vendor/x": b"a)\r\n",
        "/private/nul": b'\xff\0"',
        "/shared/empty": b"",
    }
    assert source.annotations(cafe) == {}
    assert source.annotations(None) == {"/private/comment": b"mine"}
    with pytest.raises(MessageError, match="not yours"):
        source.annotations(other)
    asked = [command for command in imap.commands if command.startswith("GETMETADATA")]
    assert asked == [
        'GETMETADATA (DEPTH infinity) "INBOX" (/shared /private)',
        'GETMETADATA (DEPTH infinity) "Caf&AOk-" (/shared /private)',
        'GETMETADATA (DEPTH infinity) "" (/private)',
        'GETMETADATA (DEPTH infinity) "Other" (/shared /private)',
    ]


def test_a_lost_connection_is_made_again(imap: ImapServer, source: ImapSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PAUSES", (0.0, 0.0))
    uid = imap.add(RAW)
    inbox = source.folders()[0]
    imap.at["uid_fetch"] = ["close"]
    assert [item.key for item in items(source, inbox)] == [str(uid)]
    imap.validity += 1
    source.close()
    with pytest.raises(MessageError, match="made anew"):
        items(source, inbox)


def test_a_closed_port_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "PAUSES", (60.0,))
    (port,) = free_ports(1)
    with pytest.raises(ConnectionError):
        ImapSource(Server("127.0.0.1", port, 10.0), Password("a", "b")).folders()


def maildir(path: Path, *names: str, octets: bytes = b"Subject: x\n\nx\n") -> None:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True)
    for name in names:
        (path / "cur" / name).write_bytes(octets)
        os.utime(path / "cur" / name, (1_500_000_000, 1_500_000_000))


def test_maildir_plus_plus(tmp_path: Path) -> None:
    maildir(tmp_path / "m", "1.a:2,S", "2.b,S=13,W=16:2,Fa")
    maildir(tmp_path / "m" / ".Sent", "3.c:2,S")
    maildir(tmp_path / "m" / ".Br&APw-cke.a&AC4-b")
    (tmp_path / "m" / "dovecot-keywords").write_text("0 work\n")
    (tmp_path / "m" / "new" / "4.d").write_bytes(b"Subject: crlf\r\n\r\nbare\nend")
    (tmp_path / "m" / "subscriptions").write_text("V\t2\n\nBr&APw-cke\ta&AC4-b\n")
    source = MaildirSource(tmp_path / "m")
    folders = source.folders()
    assert [(one.name, one.special_use, one.subscribed) for one in folders] == [
        ("INBOX", None, True),
        ("Brücke/a.b", None, True),
        ("Sent", "\\Sent", False),
    ]
    found = items(source, folders[0])
    assert [item[:5] for item in found] == [
        ("1.a", 14, flags.SEEN, (), 1_500_000_000),
        ("2.b,S=13,W=16", 16, flags.FLAGGED, ("work",), 1_500_000_000),
        ("4.d", 25, 0, (), found[2].internaldate),
    ]
    # A mail program has changed the flags of one, and removed another, meanwhile.
    (tmp_path / "m" / "cur" / "1.a:2,S").rename(tmp_path / "m" / "cur" / "1.a:2,RS")
    (tmp_path / "m" / "cur" / "2.b,S=13,W=16:2,Fa").unlink()
    assert source.load(folders[0], found) == [b"Subject: x\r\n\r\nx\r\n", None, b"Subject: crlf\r\n\r\nbare\nend"]
    assert [len(page) for page in source.items(folders[1])] == []


@pytest.mark.parametrize(
    "octets",
    [
        b"not JSON\n",
        b"",
        b"7\n",
        b'{"title": "somebody\'s notes"}\n',
        b'{"mailboxes": []}\n',
        b"[" * 100_000,
        b"\xff\n",
    ],
)
@pytest.mark.parametrize("make", [MaildirSource, MboxSource])
def test_an_index_that_is_none_of_ours_is_told_and_passed_over(
    tmp_path: Path, make: Callable[[Path], Source], octets: bytes
) -> None:
    maildir(tmp_path, "1.a:2,S")
    (tmp_path / "box").write_bytes(b"From a@b Thu Nov 19 10:00:00 2026\nSubject: x\n\nx\n")
    (tmp_path / "index.jsonl").write_bytes(octets)
    source = make(tmp_path)
    (folder,) = source.folders()
    assert [f"{tmp_path}/index.jsonl is not the index of an export." in note for note in source.notes] == [True]
    assert len(items(source, folder)) == 1
    assert source.annotations(folder) == source.annotations(None) == {}
    (tmp_path / "index.jsonl").unlink()
    (tmp_path / "index.jsonl").mkdir()
    source.folders()
    assert ["cannot be read" in note for note in source.notes] == [True]
    (tmp_path / "index.jsonl").rmdir()
    source.folders()
    assert source.notes == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Who fills a folder that the administrator imports does not get to read with his rights."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"From a@b Thu Nov 19 10:00:00 2026\nSubject: not yours\n\nx\n")
    others = tmp_path / "others"
    maildir(others, "1.theirs:2,S")
    root = tmp_path / "m"
    maildir(root, "1.mine:2,S")
    (root / "cur" / "2.evil:2,S").symlink_to(secret)
    (root / ".Whole").symlink_to(others)
    (root / ".Part").mkdir()
    for part in ("cur", "new"):
        (root / ".Part" / part).symlink_to(others / part)
    source = MaildirSource(root)
    (inbox,) = source.folders()
    (mine,) = items(source, inbox)
    assert mine.key == "1.mine"
    assert source.notes == ["INBOX: symbolic links are passed over."]
    # A link that takes the place of a message that was seen.
    (root / "cur" / "1.mine:2,S").unlink()
    (root / "cur" / "1.mine:2,S").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        source.load(inbox, [mine])
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    (boxes / "Mine").write_bytes(secret.read_bytes())
    (boxes / "Evil").symlink_to(secret)
    found = MboxSource(boxes)
    assert [one.name for one in found.folders()] == ["Mine"]
    assert found.notes == ["Evil: symbolic links are passed over."]
    # One that the administrator names is meant.
    link = tmp_path / "link"
    link.symlink_to(secret)
    named = MboxSource(link)
    assert len(items(named, named.folders()[0])) == 1


def test_directories_as_dovecot_lays_them_out(tmp_path: Path) -> None:
    maildir(tmp_path / "INBOX", "1.a:2,")
    maildir(tmp_path / "Work")
    maildir(tmp_path / "Work" / "Sub.x")
    assert [one.name for one in MaildirSource(tmp_path).folders()] == ["INBOX", "Work", "Work/Sub.x"]


def test_long_messages_come_in_pieces(tmp_path: Path) -> None:
    octets = b"Subject: x\n\n" + b"\r\nab\n" * 200_000
    maildir(tmp_path, "1.a:2,", octets=octets)
    source = MaildirSource(tmp_path)
    (folder,) = source.folders()
    (item,) = items(source, folder)
    pieces = list(source.pieces(folder, item))
    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces) == octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    ((close,),) = source.items(folder, closely=True)
    assert (close.size, close.message_id) == (len(b"".join(pieces)), "")


def test_a_directory_of_mbox_files(tmp_path: Path) -> None:
    line = b"From a Mon Jan  2 03:04:05 2023\n"
    same = line + b"Message-ID: <x@y>\n\nsame\n\n"
    (tmp_path / "Inbox").write_bytes(same + line.replace(b"2023", b"2024") + b"Status: RO\nMessage-ID: <x@y>\n\nsame\n")
    (tmp_path / "Inbox.msf").write_bytes(b"no mbox")
    (tmp_path / "Sent.mbox").write_bytes(b"")
    (tmp_path / "Work.sbd").mkdir()
    (tmp_path / "Work.sbd" / "Sub").write_bytes(line + b"X: y\n\n" + b"z" * 600_000 + b"\n")
    source = MboxSource(tmp_path)
    folders = source.folders()
    assert [(one.name, one.special_use) for one in folders] == [
        ("INBOX", None),
        ("Sent", "\\Sent"),
        ("Work/Sub", None),
    ]
    first, second = items(source, folders[0])
    # One is the same as the other but for its flags: they are two all the same.
    assert first.key[:-1] == second.key[:-1]
    assert (first.key[-2:], second.key[-2:], second.flags) == ("-1", "-2", flags.SEEN)
    assert source.load(folders[0], [second]) == [b"Message-ID: <x@y>\r\n\r\nsame\r\n"]
    (long,) = items(source, folders[2])
    pieces = list(source.pieces(folders[2], long))
    assert (max(map(len, pieces)) <= PIECE, len(b"".join(pieces))) == (True, long.size)
    ((close, _),) = source.items(folders[0], closely=True)
    assert close.message_id == "x@y"


def test_what_folders_are_for() -> None:
    assert special_use("Deleted Items", (), ()) == "\\Trash"
    assert special_use("Deleted Items", (), ("\\Trash",)) is None
    assert special_use("a/b/Sent", (), ()) is None
    assert special_use("Envoyés", ("\\sent",), ()) == "\\Sent"


def test_places(tmp_path: Path) -> None:
    def secret() -> str:
        return "correct horse"

    google = {"GOOGLE_CLIENT_ID": "i", "GOOGLE_CLIENT_SECRET": "s", "GOOGLE_REFRESH_TOKEN": "r"}
    microsoft = {"MICROSOFT_CLIENT_ID": "i", "MICROSOFT_CLIENT_SECRET": "s", "MICROSOFT_TENANT_ID": "t"}
    for place, env, name, kind in (
        ("imap://ann@mail.example.org", {}, "imap://ann@mail.example.org:143", Password),
        (
            "imaps://ann%40example.org@Mail.example.org:9993",
            {},
            "imap://ann@example.org@mail.example.org:9993",
            Password,
        ),
        ("gmail:ann@gmail.com", {}, "imap://ann@gmail.com@imap.gmail.com:993", Password),
        ("gmail:ann@gmail.com", {"GMAIL_PASSWORD": "x"}, "imap://ann@gmail.com@imap.gmail.com:993", Password),
        ("gmail:ann@gmail.com", google, "imap://ann@gmail.com@imap.gmail.com:993", AccessToken),
        ("microsoft:ann@example.org", {}, "imap://ann@example.org@outlook.office365.com:993", Password),
        ("microsoft:ann@example.org", microsoft, "imap://ann@example.org@outlook.office365.com:993", AccessToken),
    ):
        source = open_source(place, secret, environ=env)
        assert isinstance(source, ImapSource)
        assert source.name == name
        assert isinstance(source._mailbox._credential, kind)
    for place, words in (
        ("imap://ann:secret@mail.example.org", "password"),
        ("imap://mail.example.org", "user@host"),
        ("imaps://ann@mail.example.org:99999", "port"),
        ("ftp://mail.example.org", "no place"),
        (f"maildir:{tmp_path}/none", "no directory"),
        (f"maildir:{tmp_path}", "no Maildir"),
        (f"mbox:{tmp_path}", "no mbox"),
        (f"mbox:{tmp_path}/none", "not there"),
    ):
        with pytest.raises(ConfigurationError, match=words) as raised:
            open_source(place, secret, environ={})
        assert "secret" not in str(raised.value)
    with pytest.raises(ConfigurationError, match="MICROSOFT_TENANT_ID"):
        open_source("microsoft:a@b", secret, environ={"MICROSOFT_CLIENT_ID": "i", "MICROSOFT_CLIENT_SECRET": "s"})
