"""Thunderbird in a window on a display of its own (Xvfb): it reads, flags, moves, searches and is told of mail.

Its package is large, so unlike the other clients it is run where it is installed and not asked for in .ci/run:
apt install thunderbird xvfb.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.interop.thunderbird.marionette import Marionette
from tests.interop.trusted import Trusted
from tests.live import DOMAIN, PASSWORD, free_ports, until

pytestmark = pytest.mark.desktop

SECONDS = 60.0
"""How long it may take to start, and each step."""
MAILS = [
    b"From: x%d@elsewhere.example\r\nTo: alice@test.example\r\nDate: Wed, 1 May 2024 12:00:0%d +0000\r\n"
    b"Message-ID: <%d@elsewhere.example>\r\nSubject: number %d\r\n\r\ntext needle%d\r\n" % (i, i, i, i, i)
    for i in range(4)
]
PREFERENCES = """
user_pref("marionette.port", %d);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.rights.version", 1);
user_pref("network.proxy.type", 0);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("extensions.update.enabled", false);
"""
# what each step may use; the steps do what keys and the mouse would, in the window
PRELUDE = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const { setTimeout } = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
const tabs = Services.wm.getMostRecentWindow("mail:3pane").document.getElementById("tabmail");
const pane = tabs.currentAbout3Pane;
const folder = name => MailServices.accounts.allServers.find(s => s.type == "imap").rootFolder.getChildNamed(name);
const until = async (condition, what) => {
    for (const end = Date.now() + 20000; Date.now() < end; await new Promise(go => setTimeout(go, 50))) {
        const value = condition();
        if (value) return value;
    }
    throw new Error(`not in time: ${what}`);
};
const rows = () => [...Array(pane.gDBView.rowCount).keys()].map(row => pane.gDBView.getMsgHdrAt(row));
const choose = subject => { pane.threadTree.selectedIndex = rows().findIndex(one => one.subject == subject); };
"""


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Runs a script in Thunderbird, which is started with a profile and a display of its own, and ended."""
    missing = [name for name in ("thunderbird", "Xvfb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on PATH (apt install thunderbird xvfb)")
    (port,) = free_ports(1)
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(PREFERENCES % port)
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=(writing,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as screen:
        os.close(writing)
        with os.fdopen(reading) as display, (tmp_path / "log").open("w") as log:
            program = subprocess.Popen(
                ["thunderbird", "--profile", profile, "--no-remote", "--marionette", "--remote-allow-system-access"],
                env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DISPLAY": f":{display.readline().strip()}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            try:
                marionette = until(lambda: reached(port), SECONDS, "Thunderbird has started")
                yield lambda text, *given: marionette.script(PRELUDE + text, *given)
                marionette.close()
            finally:
                for process in (program, screen):
                    process.terminate()
                    process.wait(SECONDS)


def reached(port: int) -> Marionette | None:
    try:
        return Marionette(port, SECONDS)
    except OSError:
        return None


def test_thunderbird(step: Callable[..., Any], server: Trusted) -> None:
    with server.imap("alice") as imap:
        for mail in MAILS:
            imap.append("INBOX", "", None, mail)

    # An account, and the authority among those that it trusts; all the rest it finds out.
    authority = "".join(line for line in server.authority.read_text().splitlines() if "-----" not in line)
    names = step(
        """
        const [authority, user, host, port, password] = given;
        Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).addCertFromBase64(authority, "C,,");
        const server = MailServices.accounts.createIncomingServer(user, host, "imap");
        server.port = port;
        server.socketType = Ci.nsMsgSocketType.SSL;
        server.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
        server.password = password;
        const account = MailServices.accounts.createAccount();
        const identity = MailServices.accounts.createIdentity();
        identity.email = user;
        account.addIdentity(identity);
        account.incomingServer = server;
        server.performExpand(null);
        await until(() => server.rootFolder.subFolders.length >= 6, "folders");
        const { Archive, Drafts, SentMail, Trash, Junk } = Ci.nsMsgFolderFlags;
        return Object.fromEntries([Archive, Drafts, SentMail, Trash, Junk].map(
            flag => [server.rootFolder.getFolderWithFlags(flag)?.name, true]));
        """,
        authority,
        f"alice@{DOMAIN}",
        server.host,
        server.imaps,
        PASSWORD,
    )
    assert set(names) == {"Archive", "Drafts", "Sent", "Trash", "Junk"}

    # It shows a message, which is read thereby.
    text = step(
        """
        pane.displayFolder(folder("INBOX").URI);
        await until(() => pane.gDBView?.rowCount == 4, "four messages in the list");
        choose("number 0");
        const shown = () => tabs.currentAboutMessage?.getMessagePaneBrowser().contentDocument?.body?.textContent;
        return await until(() => shown()?.includes("needle0") && shown(), "the message");
        """
    )
    assert "text needle0" in text
    until(lambda: server.stored("alice")[MAILS[0]] == {b"\\Seen"}, SECONDS, "it is read")

    # It flags one and moves one.
    step('choose("number 1"); pane.commandController.doCommand("cmd_markAsFlagged");')
    until(lambda: b"\\Flagged" in server.stored("alice")[MAILS[1]], SECONDS, "it is flagged")
    step(
        """
        choose("number 2");
        pane.commandController.doCommand("cmd_moveMessage", folder("Archive"));
        await until(() => pane.gDBView.rowCount == 3, "it is gone from the list");
        """
    )
    until(lambda: MAILS[2] in server.stored("alice", "Archive"), SECONDS, "it is moved")
    assert set(server.stored("alice")) == {MAILS[0], MAILS[1], MAILS[3]}

    # It has the server search.
    found = step(
        """
        const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession);
        session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, folder("INBOX"));
        const term = session.createTerm();
        const { value } = term;
        term.attrib = value.attrib = Ci.nsMsgSearchAttrib.Body;
        term.op = Ci.nsMsgSearchOp.Contains;
        value.str = "NEEDLE3";
        term.value = value;
        session.appendTerm(term);
        const found = [];
        await new Promise(done => {
            session.registerListener({
                onSearchHit(one) { found.push(one.subject); }, onSearchDone() { done(); }, onNewSearch() {}
            });
            session.search(null);
        });
        return found;
        """
    )
    assert found == ["number 3"]

    # By IDLE it is told of mail, and of what another session does.
    server.deliver("alice", b"From: y@elsewhere.example\r\nTo: alice@test.example\r\nSubject: pushed\r\n\r\nx\r\n")
    step('await until(() => rows().some(one => one.subject == "pushed"), "the new message");')
    with server.imap("alice") as imap:
        imap.select("INBOX")
        (number,) = imap.search(None, "SUBJECT", '"number 3"')[1][0].split()
        imap.store(number.decode(), "+FLAGS", "(\\Deleted \\Seen)")
        imap.expunge()
    step('await until(() => !rows().some(one => one.subject == "number 3"), "the end of a message");')
    left = step("return rows().map(one => [one.subject, one.isRead, one.isFlagged]).sort();")
    assert left == [["number 0", True, False], ["number 1", True, True], ["pushed", False, False]]
