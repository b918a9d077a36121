"""The guard: who may ask the service, for what and how often, before anything else is done for a request."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import audit
from ..serving.feedback import CONTRIBUTOR, printable
from ..serving.interfaces import ANSWERS
from ..serving.metrics import CLIENTS, counter
from ..serving.protocol import PEER
from ..serving.refusal import Refusal
from ..serving.watch import watch
from . import clients, document, rates, settings
from .clients import ANYBODY, Client, Role
from .document import OPEN

if TYPE_CHECKING:
    from bentoml._internal.service.openapi.specification import OpenAPISpecification
    from prometheus_client import Counter
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .settings import Settings

ROLES: dict[str, Role] = {"/explain": "explain", "/feedback": "feedback", "/metrics": "metrics"}  # others: predict
ANSWERED: tuple[Role, ...] = ("predict", "explain")  # roles with answers, which `answers` limits
USER = CONTRIBUTOR.encode()
AUTHORIZATION = b"authorization"  # header
UNKNOWN = "a key is needed: Authorization: Bearer KEY"
FORBIDDEN = "this is not allowed"
SMALL = 2**16  # bytes of a body that is received, and not read, to keep the connection


class Table(NamedTuple):
    """The clients, by what shows who asks.

    Attributes:
        by_key: SHA-256 of a key -> its client. Nobody can aim at an entry: looking it up may take any time.
        by_name: Name -> client.
    """

    by_key: dict[bytes, Client]
    by_name: dict[str, Client]


class Keys:
    """The clients in the file, which is read again when it changes."""

    table: Table

    def __init__(self, file: Path) -> None:
        """Reads the file.

        Args:
            file: The file.

        Raises:
            UserError: If its content is wrong.
        """
        self._file = file
        watch([self._file], self._read)

    def _read(self) -> None:
        found = clients.read(self._file)
        by_key = {bytes.fromhex(digest): client for client in found for digest in client.sha256}
        self.table = Table(by_key, {client.name: client for client in found})


class _Refused(Refusal):
    """The reason why a request is refused, with its name in metrics."""

    def __init__(
        self, reason: str, status: int, message: str, client: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(status, message, retry_after)
        self.reason, self.client = reason, client


class Guard:
    """ASGI middleware that refuses requests without a key (401), of another role (403), and beyond a limit (429).

    The first two say nothing of the reason: not whether there is such a key, or what other roles may do.
    """

    def __init__(self, app: ASGIApp, found: Settings, refused: Callable[[str], Counter], version: str) -> None:
        """Wraps an application.

        Args:
            app: The application.
            found: The settings.
            refused: The counter of the requests that are refused for a reason.
            version: The model's version.

        Raises:
            UserError: If the file of clients is wrong, or the address of Redis.
        """
        self._app, self._version = app, version
        self._keys, self._proxies = Keys(found.file), found.proxies
        self._rates = rates.Rates(found.storage)
        self._refused = {reason: refused(reason) for reason in ("key", "role", "rate", "answers")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with the name of its client, or refuses it."""
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        try:
            client, name = self._client(scope)
            await self._allow(scope, client, name)
        except _Refused as refused:
            self._count(scope, refused.reason, refused.client)
            await _refuse(refused, scope, receive, send)
            return
        counter(CLIENTS, self._version, client.name).inc()
        # What follows reads who asks from the header of a proxy: it is the name found here, whatever a client has sent.
        headers = [header for header in scope["headers"] if header[0] != USER]
        scope = {**scope, "headers": [*headers, (USER, name.encode())]}
        await self._app(scope, receive, self._counting(client, name, scope, send) if client.answers else send)

    async def _allow(self, scope: Scope, client: Client, name: str) -> None:
        """Counts a request of a client.

        Raises:
            _Refused: If it may not ask this, or not now.
        """
        role = ROLES.get(scope["path"], "predict")
        if role not in client.roles:
            raise _Refused("role", 403, FORBIDDEN, name)
        if client.rate and (seconds := await self._rates.spend(rates.rate(client.rate), name)):
            raise _Refused("rate", 429, f"at most {client.rate}: try again in {seconds} s", name, seconds)
        limited = rates.answers(client.answers) if client.answers and role in ANSWERED else None
        if limited and (seconds := await self._rates.spend(limited, name, 0)):
            raise _Refused("answers", 429, f"at most {client.answers} answers a day", name, seconds)

    def _count(self, scope: Scope, reason: str, client: str) -> None:
        self._refused[reason].inc()
        address = scope["client"][0] if scope.get("client") else None
        audit.record(f"{reason} refused", client=client, address=address, path=scope["path"])

    def _counting(self, client: Client, name: str, scope: Scope, send: Send) -> Send:
        """Sends an answer if the client has as many left; a refusal in its place otherwise."""
        assert client.answers is not None
        limit, over = rates.answers(client.answers), False

        async def counted(message: Message) -> None:
            nonlocal over
            # The number of predictions is known only when they are made, and nothing of them is sent yet.
            if message["type"] == "http.response.start" and (count := scope.get("state", {}).get(ANSWERS, 0)):
                seconds = await self._rates.spend(limit, name, count)
                if over := bool(seconds):
                    self._count(scope, "answers", name)
                    text = f"{count} answers are more than are left of {client.answers} a day"
                    await Refusal(429, text, seconds).response()(scope, _nothing, send)
            if not over:
                await send(message)

        return counted

    def _client(self, scope: Scope) -> tuple[Client, str]:
        """The client of a request, and its name.

        Raises:
            _Refused: If it is none.
        """
        table = self._keys.table
        headers: dict[bytes, list[bytes]] = {USER: [], AUTHORIZATION: []}
        for header, value in scope["headers"]:
            if header in headers:
                headers[header].append(value)
        if headers[USER] and self._proxies and self._is_proxy(scope):
            name = printable(headers[USER][0])
            client = table.by_name.get(name) or table.by_name.get(ANYBODY)
            # Two names: the proxy passes on what a client sends.
            if client is None or not name or len(headers[USER]) > 1:
                raise _Refused("role", 403, FORBIDDEN, name)
            return client, name
        scheme, _, token = b"".join(headers[AUTHORIZATION]).partition(b" ")
        client = table.by_key.get(hashlib.sha256(token.strip()).digest())
        if client is None or scheme.lower() != b"bearer" or len(headers[AUTHORIZATION]) > 1:
            raise _Refused("key", 401, UNKNOWN)
        return client, client.name

    def _is_proxy(self, scope: Scope) -> bool:
        """Whether a trusted proxy has connected: the connection says so, not a header."""
        peer = scope.get("state", {}).get(PEER)
        if not peer:
            return False
        address = ipaddress.ip_address(peer.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address  # a socket for both families has mapped addresses
        return any(address in network for network in self._proxies)


async def _nothing() -> Message:
    """No message: the body has been read."""
    return {"type": "http.disconnect"}


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Refuses a request without reading its body.

    Args:
        refusal: The reason.
        scope: The request.
        receive: Its messages.
        send: Sends the answer.
    """
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    sizes = [value for header, value in scope["headers"] if header == b"content-length"]
    chunked = any(header == b"transfer-encoding" for header, _ in scope["headers"])
    large = chunked or any(not size.isdigit() or int(size) > SMALL for size in sizes)
    await refusal.response(close=large)(scope, receive, send)


def guarded(app: ASGIApp, refused: Callable[[str], Counter], version: str) -> ASGIApp:
    """An application behind its guard; the application itself if anybody may ask.

    Args:
        app: The application.
        refused: The counter of the requests that are refused for a reason.
        version: The model's version.

    Raises:
        UserError: If the settings are wrong.
    """
    found = settings.read()
    return Guard(app, found, refused, version) if found else app


def documented(spec: OpenAPISpecification) -> OpenAPISpecification:
    """An OpenAPI document that says where a key is needed; the document itself if anybody may ask.

    Args:
        spec: The document.

    Raises:
        UserError: If the settings are wrong.
    """
    return document.documented(spec) if settings.read() else spec


def check() -> str | None:
    """A line that says who may ask; None if anybody may.

    Raises:
        UserError: If the settings are wrong.
    """
    found = settings.read()
    if found is None:
        return None
    known = clients.read(found.file)
    told = f"{settings.KEYS}: {len(known)} client(s) of {found.file} may ask"
    if found.proxies:
        told += f", and whom the proxies {', '.join(map(str, found.proxies))} name"
    rates.Rates(found.storage)  # only a request connects
    if not found.storage and any(client.rate or client.answers for client in known):
        told += f"; each process counts for itself: {settings.STORAGE} names a Redis that counts for all"
    return told
