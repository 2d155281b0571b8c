"""The one place that knows how to sign in, over SMTP (RFC 4954) and over IMAP (RFC 3501 §6.2).

By password: PLAIN, LOGIN, CRAM-MD5 over SMTP; PLAIN or the LOGIN command over IMAP. By access token: XOAUTH2.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import imaplib
import json
import smtplib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from connectors import failures
from connectors.exceptions import AuthenticationError, ConnectionError, TokenRefused
from connectors.oauth.tokens import Tokens

Step = Callable[[bytes | None], bytes | None]
"""From the server's challenge (None: the initial response) to the answer; None when there is no initial response."""

_MAX_CHALLENGES = 8
_AUTH_LINE_MAX = 12_288
"""RFC 4954 §4: the longest line of an exchange that servers have to take, without its line end."""


@dataclass(frozen=True, slots=True)
class Password:
    """A user name and a password."""

    user: str
    password: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        # the form that PLAIN has on the wire is as good as the password
        return self.password, f"\0{self.user}\0{self.password}"


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A user name and where access tokens for it come from."""

    user: str
    tokens: Tokens


Credential = Password | AccessToken


def smtp(server: smtplib.SMTP, credential: Credential, host: str) -> None:
    """Sign in on a server that has been greeted, in TLS or not as the caller decided.

    AuthenticationError when it refuses; TokenRefused when it refuses an access token, which is then forgotten.
    """
    offered = [word.upper() for word in server.esmtp_features.get("auth", "").split()]
    if isinstance(credential, AccessToken):
        if "XOAUTH2" not in offered:
            raise AuthenticationError(
                f"{host} does not offer XOAUTH2 (it offers {' '.join(offered) or 'no sign-in'}). Check 'host' and "
                "'port', or sign in by password."
            )
        token = credential.tokens.token()
        try:
            _exchange(server, "XOAUTH2", _xoauth2(credential.user, token), (token, _bearer(credential.user, token)))
        except smtplib.SMTPAuthenticationError as error:
            credential.tokens.forget(token)
            raise _token_refused(host, credential, f"{error.smtp_code} {error.smtp_error!s}") from error
        return
    mechanism = next((one for one in ("PLAIN", "LOGIN", "CRAM-MD5") if one in offered), None)
    if mechanism is None:
        raise AuthenticationError(
            f"{host} offers no sign-in by password (it offers {' '.join(offered) or 'none'}). Check 'host' and 'port', "
            "or use OAuth2."
        )
    try:
        _exchange(server, mechanism, _STEPS[mechanism](credential), credential.secrets)
    except smtplib.SMTPAuthenticationError as error:
        raise AuthenticationError(
            f"{host} refused the sign-in of {credential.user}: {error.smtp_code} {error.smtp_error!s}. Check user name "
            "and password; accounts with two-step verification need an app password."
        ) from error


def _exchange(server: smtplib.SMTP, mechanism: str, step: Step, secrets: tuple[str, ...]) -> None:
    """One AUTH exchange; SMTPAuthenticationError, in words without secrets, when it is refused.

    smtplib's own exchange takes ASCII alone.
    """
    first = step(None)
    line = "AUTH " + mechanism
    # RFC 4954 §4: an empty initial response is "="; one that makes the line too long waits for the server's 334
    fits = first is not None and len(line) + 1 + (len(first) + 2) // 3 * 4 <= _AUTH_LINE_MAX
    if first is not None and fits:
        line += " " + (base64.b64encode(first).decode() or "=")
    code, words = server.docmd(line)
    for _ in range(_MAX_CHALLENGES):
        if code != 334:
            break
        if first is not None and not fits:
            answer: bytes | None = first
            fits = True
        else:
            answer = step(_challenge(words))
        code, words = server.docmd("*" if answer is None else base64.b64encode(answer).decode())
    if code in (421, 454):
        # RFC 4954 §6: 454 is a temporary failure of the server's own
        raise ConnectionError(
            f"The server cannot check sign-ins at the moment: {code} {failures.said(words, secrets)}. Try again later."
        )
    if code not in (235, 503):
        raise smtplib.SMTPAuthenticationError(code, failures.said(words, secrets))


def _challenge(words: bytes) -> bytes:
    try:
        return base64.b64decode(words, validate=True)
    except binascii.Error:
        return b""


def _plain(credential: Password) -> Step:
    # RFC 4616 §2
    answer = f"\0{credential.user}\0{credential.password}".encode()
    return lambda _challenge: answer


def _login(credential: Password) -> Step:
    answers = [credential.password.encode(), credential.user.encode()]

    def step(challenge: bytes | None) -> bytes | None:
        return None if challenge is None or not answers else answers.pop()

    return step


def _cram_md5(credential: Password) -> Step:
    # RFC 2195 §2
    def step(challenge: bytes | None) -> bytes | None:
        if challenge is None:
            return None
        digest = hmac.new(credential.password.encode(), challenge, "md5").hexdigest()
        return f"{credential.user} {digest}".encode()

    return step


_STEPS: dict[str, Callable[[Password], Step]] = {"PLAIN": _plain, "LOGIN": _login, "CRAM-MD5": _cram_md5}


def _bearer(user: str, token: str) -> str:
    return f"user={user}\x01auth=Bearer {token}\x01\x01"


def _xoauth2(user: str, token: str) -> Step:
    """Google's and Microsoft's XOAUTH2: all in the initial response; a challenge is a refusal, and is not answered."""
    return lambda challenge: _bearer(user, token).encode() if challenge is None else b""


def _token_refused(host: str, credential: AccessToken, words: str) -> TokenRefused:
    return TokenRefused(
        f"{host} refused the access token of {credential.user}: {words}. Check that the token was given for this "
        f"address with the right scope, and that {credential.tokens.provider} lets the account use SMTP or IMAP."
    )


def imap(client: Any, credential: Credential, host: str) -> None:
    """Sign in over IMAP; client is an IMAPClient. Errors as `smtp`."""
    if isinstance(credential, AccessToken):
        _imap_token(client, credential, host)
        return
    refused = None
    try:
        if client.has_capability("AUTH=PLAIN"):
            client.plain_login(credential.user, credential.password)
        elif client.has_capability("LOGINDISABLED"):
            raise AuthenticationError(
                f"{host} lets nobody sign in by password here (LOGINDISABLED). Use TLS ('use_ssl') or OAuth2."
            )
        else:
            _ascii(credential, host)
            client.login(credential.user, credential.password)
    except imaplib.IMAP4.error as error:
        refused = _refusal(error, host, credential.secrets)
    if refused is not None:
        # Raised out here so that no exception hangs on it whose text a server has put our password in.
        raise AuthenticationError(
            f"{host} refused the sign-in of {credential.user}: {refused}. Check user name and password; accounts with "
            "two-step verification need an app password."
        ) from imaplib.IMAP4.error(refused)


def _ascii(credential: Password, host: str) -> None:
    if not (credential.user + credential.password).isascii():
        raise AuthenticationError(
            f"{host} takes user names and passwords in ASCII alone (it has no AUTH=PLAIN). Change them, or use OAuth2."
        )


def _imap_token(client: Any, credential: AccessToken, host: str) -> None:
    if not client.has_capability("AUTH=XOAUTH2"):
        raise AuthenticationError(f"{host} does not offer XOAUTH2. Check 'host' and 'port', or sign in by password.")
    token = credential.tokens.token()
    secrets = (token, _bearer(credential.user, token))
    asked = False
    details = ""

    def answer(challenge: bytes) -> bytes:
        nonlocal asked, details
        if not asked:
            asked = True
            return _bearer(credential.user, token).encode()
        details = _details(challenge)
        return b""

    refused = None
    try:
        client.sasl_login("XOAUTH2", answer)
    except imaplib.IMAP4.error as error:
        refused = _refusal(error, host, secrets)
    if refused is not None:
        credential.tokens.forget(token)
        text = failures.said(f"{refused} {details}", secrets)
        raise _token_refused(host, credential, text) from imaplib.IMAP4.error(text)


def _details(challenge: bytes) -> str:
    """The status in the JSON that goes before a refusal, like (400)."""
    try:
        status = json.loads(challenge)["status"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f"({status})"


def _refusal(error: Exception, host: str, secrets: tuple[str, ...]) -> str:
    """What the server said when it refused; ConnectionError when the connection ended instead."""
    words = failures.said(str(error), secrets)
    below = error if isinstance(error, imaplib.IMAP4.abort) else error.__context__
    # IMAPClient makes a refused login of a lost connection too; a BYE may be either, and says so
    if not isinstance(below, imaplib.IMAP4.abort) or "AUTHENTICATIONFAILED" in words:
        return words
    raise ConnectionError(
        f"{host} ended the connection while signing in: {words}. Try again."
    ) from imaplib.IMAP4.abort(words)
