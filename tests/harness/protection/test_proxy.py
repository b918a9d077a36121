"""The configurations of docs/proxy.md in a real nginx before the guard: who is believed, what cannot be smuggled."""

import asyncio
import contextlib
import os
import re
import shutil
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import ambiguous
import httpx
import pytest
from asking import PATHS, answer, asking, new_client, refusals, run, serving, until, write
from certificates import Authority, authority
from debian import apt_install
from my_experiment.harness.protection import guard
from my_experiment.harness.protection.clients import Client
from my_experiment.harness.serving.admission import Admission
from my_experiment.harness.serving.limits import Limits
from my_experiment.harness.serving.routes import Routes
from processes import running
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from support import ROOT

PROXY = "127.0.0.3"  # the address from which nginx connects, and nobody else
PAGE = (ROOT / "docs/proxy.md").read_text()
PEOPLE, CERTIFICATES = re.findall(r"^```nginx\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
NOBODY = "http://127.0.0.1:9"  # in place of who signs people in
# In a log of its own, so that what reaches the service can be compared with what nginx has sent there.
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  log_format sent "$upstream_addr $request_method $uri";
  access_log {folder}/sent.log sent;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {content}
}}
"""
# Of the ambiguous requests, those that are not: the first one ends before the second one, as each server reads it.
PIPELINED = {
    "encoding b'CHUNKED'",
    "encoding b'\\tchunked'",
    "encoding b'gzip, chunked'",
    "encoding b'identity, chunked'",
    "name b'Content_Length'",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of clients of a service that believes nginx."""
    monkeypatch.setenv("SERVICE_KEYS", str(tmp_path / "keys.yaml"))
    monkeypatch.setenv("SERVICE_TRUSTED_PROXIES", PROXY)
    return tmp_path / "keys.yaml"


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    """The authority of server and clients."""
    return authority(tmp_path, "ours")


class Seen:
    """ASGI middleware that counts what arrives, before the guard."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = Counter[str]()
        self.hidden = set[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.requests[f"{scope['method']} {scope['path']}"] += 1
            if scope["path"] == ambiguous.HIDDEN:
                self.hidden.add(Request(scope).headers.get("x-try", ""))
        await self._app(scope, receive, send)


def service() -> Seen:
    """The layers of the service before BentoML."""

    async def echo(request: Request) -> Response:
        told: Response = await answer(request)
        told.headers["x-query"] = request.url.query
        return told

    routes = [Route(path, echo, methods=["GET", "POST"]) for path in PATHS]
    admitted = Admission(Starlette(routes=routes), Limits(), refusals)
    return Seen(Routes(guard.guarded(admitted, refusals, "test"), routes, refusals("path")))


@contextlib.asynccontextmanager
async def proxy(folder: Path, text: str, ours: Authority, url: str, sign_in: str = NOBODY) -> AsyncIterator[Path]:
    """Runs nginx with a configuration of the page until the block ends; gives the socket on which it listens."""
    if not (nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")):
        apt_install("nginx-light")
        nginx = "/usr/sbin/nginx"
    certificate, key = ours.issue("localhost")
    listening = folder / "nginx.sock"
    for here, there in (
        ("listen 443 ssl", f"listen unix:{listening} ssl"),
        ("/etc/nginx/server.pem", str(certificate)),
        ("/etc/nginx/server.key", str(key)),
        ("/etc/nginx/clients.pem", str(ours.file)),
        ("proxy_pass http://service;", f"proxy_bind {PROXY}; proxy_pass http://service;"),
        ("127.0.0.1:3000", url.removeprefix("http://")),
        ("127.0.0.1:4180", sign_in.removeprefix("http://")),
    ):
        text = text.replace(here, there)
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, content=text))
    with running(nginx, "-e", folder / "error.log", "-c", file, stderr=subprocess.DEVNULL) as process:

        async def ready() -> bool:
            assert process.poll() is None, (folder / "error.log").read_text()
            return listening.is_socket()

        await until(ready)
        yield listening


def trusting(ours: Authority, files: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """What a client needs that trusts nginx, and has a certificate and its key, or none."""
    context = ssl.create_default_context(cafile=ours.file)
    if files:
        context.load_cert_chain(*files)
    return context


def client(listening: Path, context: ssl.SSLContext, **headers: str) -> httpx.AsyncClient:
    """A client of nginx."""
    transport = httpx.AsyncHTTPTransport(uds=str(listening), verify=context)
    return httpx.AsyncClient(base_url="https://localhost", transport=transport, trust_env=False, headers=headers)


async def sign_in_page(request: Request) -> Response:
    """Stands for oauth2-proxy's page."""
    return Response("sign in", media_type="text/html")


async def signed_in(request: Request) -> Response:
    """Tells nginx who has signed in, as oauth2-proxy does."""
    person = request.cookies.get("session")
    return Response(status_code=202, headers={"x-auth-request-email": person}) if person else Response(status_code=401)


def sign_in() -> ASGIApp:
    """What nginx asks in place of oauth2-proxy, which Debian does not have."""
    return Starlette(routes=[Route("/oauth2/auth", signed_in), Route("/oauth2/sign_in", sign_in_page)])


def forged(name: str) -> list[dict[str, str]]:
    """Headers with which a client calls itself by another's name."""
    return [
        {},
        {"x-forwarded-user": name},
        {"X-FORWARDED-USER": name},
        {"x_forwarded_user": name},
        {"x-forwarded-user": f"{name}, {name}"},
        {"x-auth-request-email": name},
        {"x-forwarded-user": name, "connection": "x-forwarded-user"},
        {"x-forwarded-user": name, "x-forwarded-for": PROXY},
    ]


async def who(asked: httpx.AsyncClient, path: str = "/predict", **headers: str) -> list[str] | int:
    """Whom the service sees, or the status of a refusal."""
    found = await asked.post(path, headers=headers)
    names: list[str] = found.json()["who"] if found.status_code == 200 else []
    return names or found.status_code


def test_people_are_those_who_have_signed_in(file: Path, ours: Authority, tmp_path: Path) -> None:
    (program, token), ada = new_client("program", "predict"), "ada@example.org"
    write(
        file,
        program,
        Client(name=ada, roles=("predict", "feedback"), rate="20/hour"),
        Client(name="bob", roles=("metrics",)),
        Client(name="*", roles=("predict",)),
    )
    key = {"authorization": f"Bearer {token}"}

    async def main() -> None:
        async with (
            serving(service) as url,
            serving(sign_in) as sign,
            asking(url) as direct,
            proxy(tmp_path, PEOPLE, ours, url, sign) as nginx,
            client(nginx, trusting(ours), cookie=f"session={ada}") as signed,
            client(nginx, trusting(ours), cookie="session=eve") as anybody,
            client(nginx, trusting(ours)) as stranger,
        ):
            for headers in forged("bob"):
                assert await who(signed, **headers) == [ada], headers
                assert await who(anybody, **headers) == ["eve"], headers
                assert await who(anybody, "/metrics", **headers) == 403, headers
                assert await who(direct, **headers) == 401, headers
                page = await stranger.post("/predict", headers=headers | key)
                assert (page.status_code, page.text) == (403, "sign in"), headers
            assert await who(signed, **key) == [ada]
            assert await who(signed, "/feedback") == [ada] and await who(anybody, "/feedback") == 403
            assert (await stranger.get("/oauth2/auth")).status_code == 404  # of nginx alone
            # The rate is a person's.
            assert 429 in [await who(signed) for _ in range(20)]
            assert await who(anybody) == ["eve"] and await who(direct, **key) == ["program"]

    run(main)


def sent(folder: Path, port: str = "") -> Counter[str]:
    """What nginx has sent to the service, by its log."""
    lines = (line.split(" ", 1) for line in (folder / "sent.log").read_text().splitlines())
    return Counter(rest for upstream, rest in lines if upstream.endswith(port) and upstream != "-")


def test_programs_come_with_keys_of_their_own(file: Path, ours: Authority, tmp_path: Path) -> None:
    (program, token) = new_client("program", "predict")
    write(file, program, Client(name="bob", roles=("predict",)))
    known = [line for line in PEOPLE.splitlines() if "auth_request" not in line and "error_page" not in line]
    without = "\n".join(line for line in known if "$person" not in line and 'authorization ""' not in line)
    sends = "proxy_pass http://service;"
    named = without.replace(sends, f'proxy_set_header x-forwarded-user ""; {sends}')

    async def main() -> None:
        async with serving(service) as url:
            for text, believed in ((named, 401), (without, ["bob"])):
                folder = tmp_path / str(believed)
                folder.mkdir()
                async with proxy(folder, text, ours, url) as nginx, client(nginx, trusting(ours)) as asked:
                    assert await who(asked, authorization=f"Bearer {token}") == ["program"]
                    # Without the line, as the page says, anybody is believed.
                    assert await who(asked, **{"x-forwarded-user": "bob"}) == believed

    run(main)


def test_a_certificate_names_its_client(file: Path, ours: Authority, tmp_path: Path) -> None:
    write(file, Client(name="ward-3", roles=("predict",)), Client(name="ada", roles=("predict", "metrics")))
    (tmp_path / "theirs").mkdir()
    theirs = authority(tmp_path / "theirs", "theirs")
    expected: dict[tuple[str, str], list[str] | int] = {
        ("ward-3", ""): ["ward-3"],
        ("ward-3", "Hospital"): ["ward-3"],
        ("ward-4", ""): 403,
        ("ward-4", "x,CN=ada"): 403,
        ("ward-4,CN=ada", ""): 401,
        ("ward-3+OU=ada", ""): 401,
        ("CN=ada", ""): 401,
        ("ada\\", "ada"): 401,
        ("ward 3", ""): 401,
        ("ada\r\nx-forwarded-user: ada", ""): 401,
    }

    async def main() -> None:
        async with serving(service) as url, proxy(tmp_path, CERTIFICATES, ours, url) as nginx:
            for number, ((name, organization), told) in enumerate(expected.items()):
                files = ours.issue(name, organization=organization, file=f"client-{number}")
                async with client(nginx, trusting(ours, files)) as asked:
                    for headers in forged("ada"):
                        assert await who(asked, **headers) == told, (name, organization, headers)
                        assert await who(asked, "/metrics", **headers) in (401, 403)
            for refused in (None, theirs.issue("ada"), ours.issue("ada", days=-1)):
                async with client(nginx, trusting(ours, refused)) as asked:
                    assert await who(asked, **{"x-forwarded-user": "ada"}) == 400

    run(main)


async def answers(asked: bytes, opened: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    """All that comes back until the connection ends, or nothing has come for a second."""
    reader, writer = opened
    found = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        writer.write(asked)
        while True:
            async with asyncio.timeout(1):
                if not (part := await reader.read(2**16)):
                    break
                found += part
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return found


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_nothing_is_smuggled_through_nginx(file: Path, ours: Authority, tmp_path: Path, buffering: str) -> None:
    """What reaches the service is what nginx has sent, and everybody gets the answer to their own request."""
    (other, token) = new_client("other", "predict", "feedback")
    write(file, other, Client(name="ward-3", roles=("predict",)))
    tries = dict(ambiguous.requests(f"Authorization: Bearer {token}\r\nx-forwarded-user: other\r\n"))
    text = CERTIFICATES.replace("location / {", f"location / {{ proxy_request_buffering {buffering};")
    context, made = trusting(ours, ours.issue("ward-3")), service()

    async def main() -> None:
        async with (
            serving(lambda: made) as url,
            proxy(tmp_path, text, ours, url) as nginx,
            client(nginx, context) as honest,
        ):

            async def attack(data: bytes) -> bytes:
                opened = asyncio.open_unix_connection(nginx, ssl=context, server_hostname="localhost")
                return await answers(data, await opened)

            async def ask(number: int) -> None:
                found = await honest.post(f"/predict?{number}", content=b"x" * number)
                assert (found.status_code, found.headers["x-query"]) == (200, str(number))
                assert found.json() == {"who": ["ward-3"], "bytes": number}

            found = await asyncio.gather(*map(attack, tries.values()), *(ask(number) for number in range(100)))
            for told in filter(None, found):
                assert not re.search(rb'"who":\["other"\]', told)
            await asyncio.gather(*(ask(number) for number in range(100)))

            async def all_logged() -> bool:
                return sent(tmp_path, url.rpartition(":")[2]) == made.requests

            await until(all_logged)

    run(main)
    assert made.requests["POST /predict"] > 200


def test_nothing_is_smuggled_into_the_service(file: Path) -> None:
    """Of an ambiguous request, the service sees one, or none."""
    (other, token) = new_client("other", "predict", "feedback")
    write(file, other)
    made, names = service(), [name for name, _ in ambiguous.requests("")]

    async def main() -> None:
        async with serving(lambda: made) as url:
            host, port = url.removeprefix("http://").split(":")

            async def attack(place: int) -> bytes:
                who = f"Authorization: Bearer {token}\r\nX-Try: {place}\r\n"
                _, data = [*ambiguous.requests(who)][place]
                return await answers(data, await asyncio.open_connection(host, int(port)))

            found = await asyncio.gather(*map(attack, range(len(names))))
            assert b"HTTP/1.1 500" not in b"".join(found)
            assert {names[int(place)] for place in made.hidden} == PIPELINED

    run(main)
    assert len(names) > 100
