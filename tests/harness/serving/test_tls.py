"""A renewed certificate in a running service, as real clients meet it."""

import asyncio
import logging
import shutil
import ssl
from pathlib import Path

import httpx
import pytest
import uvicorn.config
from certificates import authority
from my_experiment.harness.serving import tls, watch
from test_sockets import context, get, run, serving


def test_a_renewed_certificate_is_shown_and_no_request_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(uvicorn.config, "create_ssl_context", tls.context)
    monkeypatch.setattr(watch, "PERIOD", 0.05)
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    ours = authority(tmp_path, "ours")
    files = tmp_path / "server.pem", tmp_path / "server.key"
    shutil.copy(ours.issue("first", days=1)[0], files[0])
    shutil.copy(tmp_path / "first.key", files[1])

    async def main() -> None:
        async with serving(tmp_path / "health.sock", *files) as port:
            url, loop = f"https://127.0.0.1:{port}/", asyncio.get_running_loop()
            answered = 0
            ending = asyncio.Event()

            async def new_connections() -> None:
                nonlocal answered
                while not ending.is_set():
                    assert await get(url, context(ours)) == "https"
                    answered += 1

            async def one_connection() -> None:
                async with httpx.AsyncClient(verify=context(ours), trust_env=False) as client:
                    while not ending.is_set():
                        assert (await client.get(url)).text == "https"
                        await asyncio.sleep(0.01)  # a client that asks now and then

            async def shows(file: Path) -> None:
                expected = ssl.PEM_cert_to_DER_cert(file.read_text())
                async with asyncio.timeout(20):
                    while True:
                        told = await loop.run_in_executor(None, ssl.get_server_certificate, ("127.0.0.1", port))
                        if ssl.PEM_cert_to_DER_cert(told) == expected:
                            return

            clients = [loop.create_task(new_connections()) for _ in range(2)] + [loop.create_task(one_connection())]
            try:
                await shows(tmp_path / "first.pem")
                assert 'service_certificate_days{model_version="test"} 0.9' in tls.facts("test")
                for name, days in (("second", 1), ("third", 2)):
                    certificate, key = ours.issue(name, days)
                    # One after the other: until the second has come, they do not fit.
                    shutil.copy(certificate, files[0])
                    await asyncio.sleep(0.2)  # looks at it meanwhile
                    shutil.copy(key, files[1])
                    await shows(certificate)
                assert 'service_certificate_days{model_version="test"} 1.9' in tls.facts("test")
                assert "key values mismatch" in caplog.text and "the service goes on" in caplog.text
                files[0].write_text("nothing")
                before = answered
                while answered < before + 20 and not any(client.done() for client in clients):
                    await asyncio.sleep(0.01)  # between two looks at the condition
                await shows(tmp_path / "third.pem")
            finally:
                ending.set()
            await asyncio.gather(*clients)

    run(main)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_of_tls_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.config, "create_ssl_context", tls.context)
    ours = authority(tmp_path, "ours")

    def asks(version: ssl.TLSVersion) -> ssl.SSLContext:
        made: ssl.SSLContext = context(ours)
        made.set_ciphers("ALL:@SECLEVEL=0")  # OpenSSL's own limit for the client
        made.minimum_version = made.maximum_version = version
        return made

    async def main() -> None:
        async with serving(tmp_path / "health.sock", *ours.issue("server")) as port:
            url = f"https://127.0.0.1:{port}/"
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                assert await get(url, asks(version)) == "https"
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                with pytest.raises(httpx.ConnectError):
                    await get(url, asks(version))

    run(main)
