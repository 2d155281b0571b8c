"""The transport over SMTP: finds the servers of a letter's domain, speaks to them in order, tells what came of it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Hashable
from contextlib import aclosing
from dataclasses import dataclass, field

import structlog

from runtime.dns import DnsTemporary, Resolver
from runtime.limits import Networks
from smtp.outbound.pool import Pool
from smtp.outbound.replies import Trouble, clean
from smtp.outbound.routes import NoRoute, Router, literal_address
from smtp.outbound.routetext import Route
from smtp.outbound.session import Endpoint, Failed, Handshake, Opener, Session, Times
from smtp.outbound.settings import OutboundSettings
from smtp.outbound.tlspolicy import DomainPolicy, HostPolicy, TlsPolicies, TlsResult
from smtp.outbound.transaction import Parcel, parcel_of, transact
from smtp.outbound.transport import Letter, Outcome, Phase, Result, Status, Transport
from storage.port import Refused, Unavailable

CONNECTIONS_MAX = 10
"""Connections that one attempt opens at most, all hosts and addresses together."""
SPEAKS_MAX = 2
"""Servers to which one attempt says MAIL at most."""
DOWN_SECONDS = 60.0
"""How long an address that could not be reached is tried after all others."""
DOWN_MAX = 5000
_ORDER = {phase: place for place, phase in enumerate(Phase)}

CUT_SHORT = Outcome(Status.DEFERRED, Phase.TEXT, "4.3.0", "The message could not be read from the mail store")
BROKEN_OFF = Outcome(
    Status.DEFERRED, Phase.TEXT, "4.3.0", "The attempt was broken off before this recipient's answer", doubtful=True
)

log = structlog.get_logger("outbound")


@dataclass(slots=True)
class _Attempt:
    """One call of ``send``. destination: as the pool knows it. spoken: servers to which MAIL was said. tls, verified,
    dsn, reused: of the session that was used last."""

    parcel: Parcel
    route: Route
    destination: Hashable
    troubles: list[Trouble] = field(default_factory=list)
    spoken: int = 0
    connections: int = 0
    tls: str | None = None
    verified: str = ""
    dsn: bool = False
    reused: bool = False


class SmtpTransport:
    """As ``Transport`` says. port: of MX hosts. connectors: the transport of a connector by its name, None where there
    is none."""

    def __init__(
        self,
        router: Router,
        policies: TlsPolicies,
        opener: Opener,
        *,
        times: Times,
        port: int = 25,
        connectors: Callable[[str], Transport | None] = lambda _name: None,
    ) -> None:
        self._router = router
        self._policies = policies
        self._opener = opener
        self._times = times
        self._port = port
        self._connectors = connectors
        self._pool = Pool()
        self._down: OrderedDict[tuple[str, int], float] = OrderedDict()

    async def send(self, letter: Letter) -> Result:
        """As ``Transport.send``."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            route = self._router.route(letter.domain, letter.route, letter.sender)
        except NoRoute as error:
            return _nowhere(letter, error, loop.time() - began)
        if route.kind == "connector":
            if (connector := self._connectors(route.host)) is None:
                missing = NoRoute(Status.DEFERRED, "4.3.5", f"There is no connector {clean(route.host)!r}")
                return _nowhere(letter, missing, loop.time() - began)
            return await connector.send(letter)
        parcel = await parcel_of(letter)
        domain = letter.domain if route.kind == "mx" else ""
        attempt = _Attempt(parcel, route, (route.key, domain, parcel.requiretls, parcel.tls_optional))
        try:
            await self._over_known(attempt)
            if parcel.undecided:
                await self._over_hosts(attempt)
        except NoRoute as error:
            if not parcel.outcomes:
                return _nowhere(letter, error, loop.time() - began)
            attempt.troubles.append(Trouble(Phase.ROUTE, error.enhanced, error.text))
        except (Exception, asyncio.CancelledError) as error:
            if not parcel.outcomes:
                raise
            # Some have their verdict: they would get the message again if it were lost with the error.
            log.warning("broken off between recipients", item=letter.item, trace=letter.trace, exc_info=error)
            outcome = CUT_SHORT if isinstance(error, Unavailable | Refused) else BROKEN_OFF
            parcel.outcomes.update((one.address, outcome) for one in parcel.undecided)
        return self._result(attempt, loop.time() - began)

    async def close(self) -> None:
        """As ``Transport.close``."""
        await self._pool.close()

    # -- servers

    async def _over_known(self, attempt: _Attempt) -> None:
        """Over sessions that are open, without looking anything up."""
        while attempt.parcel.undecided and (session := self._pool.take_known(attempt.destination)) is not None:
            if (trouble := await self._over(attempt, session, reused=True)) is not None and attempt.spoken:
                attempt.troubles.append(trouble)
                return

    async def _over_hosts(self, attempt: _Attempt) -> None:
        """To each server in order, until no recipient is without a verdict. Raises NoRoute."""
        self._pool.forget(attempt.destination)
        async with aclosing(self._endpoints(attempt)) as endpoints:
            async for endpoint, domain, more in endpoints:
                if attempt.connections >= CONNECTIONS_MAX or attempt.spoken >= SPEAKS_MAX:
                    return
                trouble = await self._to(attempt, endpoint, domain, more)
                if not attempt.parcel.undecided:
                    return
                if trouble is not None:
                    attempt.troubles.append(trouble)

    async def _to(
        self, attempt: _Attempt, endpoint: Endpoint, domain: DomainPolicy | None, more: bool
    ) -> Trouble | None:
        """To one server: over sessions that are open with it, then over a new one."""
        while (session := self._pool.take(endpoint)) is not None:
            trouble = await self._over(attempt, session, reused=True)
            if trouble is None or attempt.spoken:
                return trouble
        try:
            session = await self._open(attempt, endpoint, domain, more)
        except Failed as failed:
            return failed.trouble
        return await self._over(attempt, session, reused=False)

    async def _open(self, attempt: _Attempt, endpoint: Endpoint, domain: DomainPolicy | None, more: bool) -> Session:
        attempt.connections += 1
        place = (endpoint.address, endpoint.port)
        try:
            try:
                session = await self._opener.open(endpoint, more=more)
            except Failed as failed:
                self._note(domain, endpoint, failed.handshake)
                if not failed.retry_plain:
                    raise
                # RFC 7435 §3: where TLS is not required, mail that cannot go under it goes without.
                session = await self._opener.open(endpoint, more=more, plain=True)
            else:
                self._note(domain, endpoint, session.handshake)
        except Failed as failed:
            if failed.trouble.phase in (Phase.CONNECT, Phase.GREETING):
                self._is_down(place)
            raise
        self._down.pop(place, None)
        return session

    async def _over(self, attempt: _Attempt, session: Session, *, reused: bool) -> Trouble | None:
        """One message over a session. A trouble at MAIL of a session that was open says nothing of the server: it is
        not counted as spoken to, and another session is taken."""
        decided = len(attempt.parcel.outcomes)
        trouble = await transact(session, attempt.parcel, self._times)
        fresh = len(attempt.parcel.outcomes) > decided
        if trouble is not None:
            session.ending = True
        if fresh or trouble is None or not reused or trouble.phase is not Phase.MAIL:
            attempt.spoken += 1
            attempt.tls, attempt.verified = session.tls, session.verified
            attempt.dsn, attempt.reused = session.dsn, reused
        self._pool.give(session, attempt.destination)
        return trouble

    async def _endpoints(self, attempt: _Attempt) -> AsyncGenerator[tuple[Endpoint, DomainPolicy | None, bool], None]:
        """The servers in order, each with whether others may follow. What keeps hosts from being tried is noted in
        ``troubles``. Raises NoRoute."""
        route, letter = attempt.route, attempt.parcel.letter
        domain: DomainPolicy | None = None
        if route.kind == "mx":
            way = await self._router.hosts(letter.domain)
            try:
                if not attempt.parcel.tls_optional:
                    domain = await self._policies.for_domain(letter.domain, way.mx)
            except DnsTemporary as error:
                text = f"What TLS {letter.domain} asks for cannot be looked up now: {error}"
                raise NoRoute(Status.DEFERRED, "4.7.5", clean(text)) from error
            hosts, port = way.hosts, self._port
        else:
            hosts, port = (route.host,), route.port
        late: list[tuple[Endpoint, DomainPolicy | None, bool]] = []
        for place, host in enumerate(hosts):
            try:
                addresses = await self._router.addresses(host, named=route.kind == "host")
                if not addresses.values:
                    none = f"The mail host {host} has no address"
                    if route.kind == "mx":
                        none += " that mail may be sent to"
                    attempt.troubles.append(Trouble(Phase.ROUTE, "5.4.4", clean(none), permanent=True))
                    continue
                if route.kind == "host":
                    policy = _relay_policy(route, attempt.parcel.requiretls)
                elif domain is None:
                    policy = HostPolicy(False, "none", (literal_address(host) or host,))
                else:
                    name = literal_address(host) or host
                    policy = await self._policies.for_host(
                        domain, name, addresses, port=port, requiretls=attempt.parcel.requiretls
                    )
            except DnsTemporary as error:
                text = f"The mail host {host} cannot be looked up now: {error}"
                attempt.troubles.append(Trouble(Phase.ROUTE, "4.4.3", clean(text)))
                continue
            if not policy.usable:
                if domain is not None and policy.kind != "requiretls":
                    self._policies.note(domain, host, policy, TlsResult.VALIDATION_FAILURE, detail=policy.reason)
                # RFC 8689 §4.2.1: nothing better is to be waited for. What MTA-STS rules out may be a stale policy.
                never = policy.kind == "requiretls"
                attempt.troubles.append(
                    Trouble(Phase.TLS, "5.7.30" if never else "4.7.5", clean(policy.reason), permanent=never)
                )
                continue
            for turn, address in enumerate(addresses.values):
                endpoint = Endpoint(host, address, port, policy, route, attempt.parcel.requiretls)
                more = turn + 1 < len(addresses.values) or place + 1 < len(hosts) or bool(late)
                if more and self._seems_down((address, port)):
                    late.append((endpoint, domain, False))
                else:
                    yield endpoint, domain, more
        for found in late:
            yield found

    # -- what is known

    def _note(self, domain: DomainPolicy | None, endpoint: Endpoint, handshake: Handshake | None) -> None:
        """For the report to the destination; relays of the settings get none."""
        if domain is None or handshake is None:
            return
        problem = handshake.problem
        self._policies.note(
            domain,
            endpoint.host,
            endpoint.policy,
            TlsResult.SUCCESS if problem is None else problem.result,
            address=endpoint.address,
            detail="" if problem is None else problem.text,
        )

    def _is_down(self, place: tuple[str, int]) -> None:
        self._down[place] = asyncio.get_running_loop().time() + DOWN_SECONDS
        self._down.move_to_end(place)
        if len(self._down) > DOWN_MAX:
            self._down.popitem(last=False)

    def _seems_down(self, place: tuple[str, int]) -> bool:
        return self._down.get(place, 0.0) > asyncio.get_running_loop().time()

    def _result(self, attempt: _Attempt, seconds: float) -> Result:
        parcel = attempt.parcel
        undecided = parcel.undecided
        down = False
        if undecided:
            outcome = _outcome(attempt.troubles)
            parcel.outcomes.update((one.address, outcome) for one in undecided)
            down = (
                outcome.status is Status.DEFERRED
                and not attempt.spoken
                and all(trouble.early for trouble in attempt.troubles)
            )
        return Result(
            parcel.outcomes, seconds, attempt.tls, attempt.verified, attempt.dsn, destination_down=down,
            reused=attempt.reused,
        )  # fmt: skip


def smtp_transport(
    settings: OutboundSettings,
    resolver: Resolver,
    policies: TlsPolicies,
    hostname: str,
    connectors: Callable[[str], Transport | None] = lambda _name: None,
    refused: Collection[str] = (),
) -> SmtpTransport:
    """The transport that the settings describe. hostname: this server's name. refused: networks in which the mail hosts
    of domains may not be. Raises ValueError for a route that cannot be read."""
    times = Times.of(settings)
    router = Router(resolver, settings.table, {hostname.lower()}, refused=Networks(refused))
    opener = Opener(policies, hostname, settings.source, times)
    port = 25 if settings.port is None else settings.port
    return SmtpTransport(router, policies, opener, times=times, port=port, connectors=connectors)


def _relay_policy(route: Route, requiretls: bool) -> HostPolicy:
    """What a relay of the settings must offer."""
    required = requiretls or route.tls != "may"
    return HostPolicy(
        required, "web-pki" if required else "none", (route.host,), kind="requiretls" if requiretls else "none"
    )


def _outcome(troubles: list[Trouble]) -> Outcome:
    """Of all that went wrong, what is told: what may get better, before what never will; then who came furthest."""
    if not troubles:
        return Outcome(Status.DEFERRED, Phase.ROUTE, "4.4.0", "No mail host could be tried")
    passing = [trouble for trouble in troubles if not trouble.permanent]
    told = max(passing or troubles, key=lambda trouble: _ORDER[trouble.phase])
    return Outcome(
        Status.DEFERRED if passing else Status.FAILED, told.phase, told.enhanced, told.text, told.code, told.remote
    )


def _nowhere(letter: Letter, error: NoRoute, seconds: float) -> Result:
    outcome = Outcome(error.status, Phase.ROUTE, error.enhanced, clean(error.text))
    return Result(
        {one.address: outcome for one in letter.recipients}, seconds, destination_down=error.status is Status.DEFERRED
    )
