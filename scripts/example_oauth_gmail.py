"""Gmail by OAuth2, from nothing to a message sent and read.

1. In the Google Cloud console make an OAuth client of the kind "Desktop app" and allow the scope https://mail.google.com/.
2. export GOOGLE_CLIENT_ID=… GOOGLE_CLIENT_SECRET=…
3. python scripts/example_oauth_gmail.py --email you@gmail.com --save refresh-token

The script shows a URL. Open it, consent, and paste the address that the browser ends up at (or the code in it). The
refresh token is written to the file that --save names, for you alone; --token-file uses it without asking again. The
other options are for other endpoints and servers than Google's.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from connectors.exceptions import AuthenticationError, ConfigurationError, ConnectionError, MessageError
from connectors.messaging.imap import GmailIMAPConnector
from connectors.messaging.oauth_utils import OAuth2Manager
from connectors.messaging.smtp import GmailConnector
from connectors.oauth.google import AUTH_URL, MAIL_SCOPE, TOKEN_URL

WAIT_SECONDS = 60.0


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--email", required=True, help="the Gmail address that consents, sends and reads")
    parser.add_argument("--to", help="who the message is for (default: the address itself)")
    token = parser.add_mutually_exclusive_group()
    token.add_argument("--save", type=Path, metavar="FILE", help="where the refresh token is kept")
    token.add_argument("--token-file", type=Path, metavar="FILE", help="a refresh token kept before")
    parser.add_argument("--auth-url", default=AUTH_URL)
    parser.add_argument("--token-url", default=TOKEN_URL)
    parser.add_argument("--smtp", default="smtp.gmail.com:587", metavar="HOST:PORT")
    parser.add_argument("--imap", default="imap.gmail.com:993", metavar="HOST:PORT")
    parser.add_argument("--ca-file", help="certificates to trust in place of the system's")
    return parser.parse_args()


def code_of(pasted: str) -> str:
    """The code in the address that a browser ended up at, or the text itself."""
    return parse_qs(urlsplit(pasted.strip()).query).get("code", [pasted.strip()])[0]


def consent(manager: OAuth2Manager, args: argparse.Namespace) -> str:
    print("Open this address, and consent:\n")
    print(manager.generate_oauth_url(login_hint=args.email), "\n")
    tokens = manager.exchange_code_for_tokens(code_of(input("Paste where the browser ended up: ")))
    refresh_token = tokens.get("refresh_token")
    if not refresh_token:
        raise AuthenticationError("No refresh token came with the code. Take the consent away at Google and try again.")
    if args.save:
        with os.fdopen(os.open(args.save, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(refresh_token)
        print(f"The refresh token is in {args.save}.")
    return str(refresh_token)


def run(args: argparse.Namespace) -> None:
    manager = OAuth2Manager.from_env(
        scopes=[MAIL_SCOPE], auth_url=args.auth_url, token_url=args.token_url, ca_file=args.ca_file
    )
    refresh_token = args.token_file.read_text().strip() if args.token_file else consent(manager, args)
    account = (args.email, manager.client_id, os.environ["GOOGLE_CLIENT_SECRET"], refresh_token)
    more = {"token_url": args.token_url, "ca_file": args.ca_file}

    host, _, port = args.smtp.rpartition(":")
    with GmailConnector.create_with_oauth(*account, host=host, port=port, **more).connection() as smtp:
        sent = smtp.send_email(
            subject=f"Hello at {time.strftime('%H:%M:%S')}",
            recipients=args.to or args.email,
            body="It works.",
            html_body="<p>It <b>works</b>.</p>",
        )
    print(f"Sent {sent.message_id} to {', '.join(sent.accepted)}.")

    host, _, port = args.imap.rpartition(":")
    with GmailIMAPConnector.create_with_oauth(*account, host=host, port=port, **more).connection() as imap:
        print("Labels:", ", ".join(imap.get_all_labels()))
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            messages = imap.receive_messages(limit=5)
            for message in messages:
                print(f"{message['date']}  {message['from']}  {message['subject']}")
            if args.to or sent.message_id in [message["message_id"] for message in messages]:
                return
            time.sleep(2)
        print(f"The message has not arrived within {WAIT_SECONDS:.0f} s.")


def main() -> int:
    try:
        run(options())
    except (AuthenticationError, ConfigurationError, ConnectionError, MessageError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
