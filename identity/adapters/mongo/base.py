"""What the parts of the MongoDB adapter share: the database, and the one way in which an account is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from identity.adapters.mongo import queries
from identity.adapters.mongo.administrators import Administrators
from identity.adapters.mongo.database import Database, Race
from identity.adapters.mongo.documents import admin_mark
from identity.adapters.mongo.names import Names
from identity.adapters.mongo.news import News
from identity.checked import Checked
from identity.guesses import Guard
from identity.model import Role
from identity.passwords import Passwords
from identity.port import Reason, Refused
from identity.scram import ScramRule
from identity.settings import IdentitySettings
from identity.to_the_end import ToTheEnd
from runtime.clock import Clock
from runtime.mongo import Document


@dataclass(frozen=True, slots=True)
class Plan:
    """A change of one account's document: values to set and paths to take away (the revision and the administrator's
    mark follow by themselves), and the news that it is (`news.item`)."""

    values: Mapping[str, Any] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    news: Mapping[str, Any] | None = None


class Base:
    """See the module. The mixins of one adapter are made once, together, by `MongoIdentity`."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        guesses: Guard,
        checked: Checked,
        scram: ScramRule,
        settings: IdentitySettings,
        clock: Clock,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._guesses = guesses
        self._checked = checked
        self._scram = scram
        self._settings = settings
        self._clock = clock
        self._names = Names(database)
        self._news = News(database, clock)
        self._administrators = Administrators(database)
        self._used: dict[str, float] = {}
        self._writes = ToTheEnd("identity change")

    async def _find(self, account: str) -> Document:
        """The account's document, not removed. Raises Refused NO_SUCH_ACCOUNT."""
        document = await self._look(account)
        if document is None or document["kind"] != queries.ACCOUNT:
            raise Refused(Reason.NO_SUCH_ACCOUNT)
        return document

    async def _look(self, account: str) -> Document | None:
        """The account's document, removed or not."""
        # What is no ASCII is no id that was ever made; some of it cannot even be asked for.
        return await self._database.first(queries.by_id(account)) if account.isascii() else None

    async def _change(self, account: str, plan: Callable[[Document], Plan]) -> Document:
        """Change an account from what it is to what the plan makes of it, by compare-and-set on its revision, and
        publish the news: the document as it is then. The plan may be asked several times, and raise Refused."""
        return await self._writes.run(self._change_now(account, plan))

    async def _change_now(self, account: str, plan: Callable[[Document], Plan]) -> Document:
        race = Race()
        while True:
            document = await self._find(account)
            made = plan(document)
            if not made.values and not made.gone:
                return document
            after = _after(document, made)
            was, is_one = "admin" in document, "admin" in after
            token = await self._administrators.leave(account, document["rev"]) if was and not is_one else None
            if await self._database.update(
                queries.account_at(account, document["rev"]), _update(document, after, made)
            ):
                break
            if token is not None:
                await self._administrators.settle(account)
            await race.lost()
        # The change is made: from here on nothing may say that it was not.
        if made.news is not None:
            await self._news.publish_soon(account)
        if token is not None:
            await self._administrators.left_soon(account, token)
        if is_one and not was:
            await self._administrators.join_soon(account)
        return after


def _after(document: Document, made: Plan) -> Document:
    """The document after the change, as far as whole fields go."""
    after = document | {name: value for name, value in made.values.items() if "." not in name}
    after = {name: value for name, value in after.items() if name not in made.gone}
    after["rev"] = document["rev"] + 1
    if after["kind"] == queries.ACCOUNT and after["enabled"] and after["role"] == Role.ADMIN.value:
        after["admin"] = admin_mark(document)
    else:
        after.pop("admin", None)
    return after


def _update(document: Document, after: Document, made: Plan) -> Document:
    values, gone = dict(made.values), list(made.gone)
    values["rev"] = after["rev"]
    if "admin" in after:
        values["admin"] = after["admin"]
    elif "admin" in document:
        gone.append("admin")
    if made.news is not None:
        values[f"news.{after['rev']}"] = dict(made.news)
        values["untold"] = after["rev"]
    update: Document = {"$set": values}
    if gone:
        update["$unset"] = dict.fromkeys(gone, "")
    return update
