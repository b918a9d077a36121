"""Where the service listens: IPv4, IPv6, a Unix socket; and TLS, as real clients meet it."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import uvloop
from certificates import Authority, authority, write_key
from cryptography.hazmat.primitives.asymmetric import ec
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.serving import sockets
from my_experiment.harness.serving.server import Server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

NO_IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def answers(family: socket.AddressFamily, address: Any) -> bool:
    """Whether a listening socket takes connections to an address."""
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0


@pytest.mark.parametrize(
    ("host", "ipv4", "ipv6"),
    [
        ("127.0.0.1", True, False),
        ("0.0.0.0", True, False),
        pytest.param("::", True, True, marks=NO_IPV6),
        pytest.param("::1", False, True, marks=NO_IPV6),
    ],
)
def test_it_listens_on_an_address_of_either_family(host: str, ipv4: bool, ipv6: bool) -> None:
    with sockets.listen(host, 0) as listening:
        port = listening.getsockname()[1]
        assert answers(socket.AF_INET, ("127.0.0.1", port)) == ipv4
        if socket.has_ipv6:
            assert answers(socket.AF_INET6, ("::1", port)) == ipv6


def test_a_name_is_looked_up() -> None:
    with sockets.listen("localhost", 0) as listening:
        assert answers(listening.family, listening.getsockname())


def test_all_addresses_are_those_of_ipv4_on_a_machine_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)  # the kernel's own switch needs a boot
    with sockets.listen("::", 0) as listening:
        assert listening.family == socket.AF_INET
        assert answers(socket.AF_INET, ("127.0.0.1", listening.getsockname()[1]))


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1", "2001:db8::1", ""])
def test_another_address_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(UserError, match=rf"^--host {host} --port \d+: [^\n]+$"), sockets.listen(host, 1 << 15):
        pass


def test_a_port_in_use_is_refused_in_one_line() -> None:
    with sockets.listen("127.0.0.1", 0) as first, pytest.raises(UserError, match=r"--port .*in use"):
        sockets.listen("127.0.0.1", first.getsockname()[1])


def test_a_unix_socket_takes_the_place_of_a_killed_service_and_leaves_none(tmp_path: Path) -> None:
    path = tmp_path / "health.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with sockets.listen_locally(path):
        assert answers(socket.AF_UNIX, str(path))
    assert not path.exists()


@pytest.mark.parametrize("name", ["file", "missing/health.sock", "x" * 200])
def test_a_path_that_is_no_unix_socket_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match=r"^--health /.*: [^\n]+$"), sockets.listen_locally(tmp_path / name):
        pass
    assert (tmp_path / "file").read_text() == "kept"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("theirs"), "theirs")


def test_files_that_are_no_certificates_are_refused_in_one_line(ours: Authority, tmp_path: Path) -> None:
    certificate, key = ours.issue("server")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    encrypted = write_key(tmp_path / "encrypted.key", ec.generate_private_key(ec.SECP256R1()), b"password")
    other = write_key(tmp_path / "other.key", ec.generate_private_key(ec.SECP256R1()))
    missing = tmp_path / "missing.pem"
    assert sockets.tls_options(None, None, None) == []
    assert sockets.tls_options(both, None, None) == ["--ssl-certfile", str(both)]
    assert sockets.tls_options(certificate, key, ours.file)[-2:] == ["--ssl-cert-reqs", "2"]
    cases: list[tuple[Path | None, Path | None, Path | None, str]] = [
        (None, key, ours.file, "^--ssl-keyfile and --ssl-ca-certs without --ssl-certfile: the service would not"),
        (missing, None, None, rf"^--ssl-certfile {missing}: there is no such file"),
        (certificate, key, missing, rf"^--ssl-ca-certs {missing}: there is no such file"),
        (certificate, None, None, rf"^--ssl-certfile {certificate}: OpenSSL cannot read a certificate and its key"),
        (certificate, encrypted, None, "cannot read a certificate and its key, not encrypted,"),
        (certificate, other, None, "key values mismatch"),
        (key, key, None, "cannot read a certificate and its key"),
        (certificate, key, key, rf"^--ssl-ca-certs {key}: OpenSSL cannot read certificates in PEM"),
    ]
    for *files, message in cases:
        with pytest.raises(UserError, match=message) as raised:
            sockets.tls_options(*files)
        assert "\n" not in str(raised.value)


async def scheme(request: Request) -> Response:
    return PlainTextResponse(request.url.scheme)


@contextlib.asynccontextmanager
async def serving(health: Path, *files: Path | None) -> AsyncIterator[int]:
    """Runs the server with certificates until the block ends; gives its port."""
    options = dict(zip(("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"), files, strict=False))
    required = {"ssl_cert_reqs": ssl.CERT_REQUIRED} if options.get("ssl_ca_certs") else {}
    config = uvicorn.Config(Starlette(routes=[Route("/", scheme)]), log_config=None, **options, **required)  # type: ignore[arg-type]
    with sockets.listen_locally(health) as local:
        server, listening = Server(config, [local]), sockets.listen("::", 0)
        running = asyncio.create_task(server.serve([listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await running


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Runs a coroutine; an error that was not retrieved fails the test."""
    errors: list[Any] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        await main()

    uvloop.run(watched())  # as the service does
    assert errors == []


def context(trusted: Authority, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    """What a client trusts, and the certificate that it shows."""
    made = ssl.create_default_context(cafile=trusted.file)
    if certificate:
        made.load_cert_chain(*certificate)
    return made


async def get(url: str, verify: ssl.SSLContext | bool = True, **options: Any) -> str:
    async with httpx.AsyncClient(verify=verify, trust_env=False, **options) as client:
        return (await client.get(url)).text


def test_tls_answers_who_trusts_it_and_nobody_without_tls(ours: Authority, theirs: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        health = tmp_path / "health.sock"
        async with serving(health, *ours.issue("server")) as port:
            for host in ["127.0.0.1", "localhost", *(["[::1]"] if socket.has_dualstack_ipv6() else [])]:
                assert await get(f"https://{host}:{port}/", context(ours)) == "https"
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await get(f"https://127.0.0.1:{port}/", context(theirs))
            with pytest.raises(httpx.TransportError):
                await get(f"http://127.0.0.1:{port}/")
            # A silent client delays neither other clients nor the end of the service.
            silent = await asyncio.open_connection("127.0.0.1", port)
            assert await get(f"https://127.0.0.1:{port}/", context(ours)) == "https"
            # Health checks of this machine need neither a certificate nor TLS.
            assert await get("http://here/", transport=httpx.AsyncHTTPTransport(uds=str(health))) == "http"
        silent[1].close()
        assert not health.exists()

    run(main)


def test_mutual_tls_answers_who_has_a_certificate(ours: Authority, theirs: Authority, tmp_path: Path) -> None:
    async def main() -> None:
        health = tmp_path / "health.sock"
        async with serving(health, *ours.issue("server"), ours.file) as port:
            url = f"https://127.0.0.1:{port}/"
            assert await get(url, context(ours, ours.issue("client"))) == "https"
            for refused in (None, theirs.issue("stranger"), ours.issue("expired", days=-1)):
                with pytest.raises(httpx.TransportError):  # TLS 1.3 refuses a client after its first message
                    await get(url, context(ours, refused))
            assert await get("http://here/", transport=httpx.AsyncHTTPTransport(uds=str(health))) == "http"

    run(main)
