"""The guard on a real server: keys, roles, revocation while it runs, names by a proxy, and what it tells strangers."""

import asyncio
import hashlib
import logging
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import PATHS, asking, new_client, run, serving, until, write
from my_experiment.harness.protection import clients, guard
from my_experiment.harness.protection.clients import Client
from my_experiment.harness.serving import watch
from my_experiment.harness.serving.metrics import CLIENTS, counter, refused


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of clients that the service of the test reads, and soon again after it changes."""
    monkeypatch.setattr(watch, "PERIOD", 0.05)
    monkeypatch.setenv("SERVICE_KEYS", str(tmp_path / "keys.yaml"))
    return tmp_path / "keys.yaml"


def test_each_role_opens_its_paths_and_no_others(file: Path) -> None:
    known = {role: new_client(f"only-{role}", role) for role in ("predict", "explain", "feedback", "metrics")}
    write(file, *(client for client, _ in known.values()))
    allowed = {"predict": {"/predict", "/ui"}, **{role: {f"/{role}"} for role in ("explain", "feedback", "metrics")}}

    async def main() -> None:
        async with serving() as url:
            for role, (_, token) in known.items():
                async with asking(url, token) as client:
                    for path in PATHS:
                        for method in ("GET", "POST", "HEAD"):
                            status = (await client.request(method, path)).status_code
                            assert (status in (200, 405)) == (path in {"/readyz", *allowed[role]}), (role, method, path)
                            assert status in (200, 405, 403), (role, method, path)

    run(main)


def test_who_has_no_key_learns_nothing(file: Path) -> None:
    (known, token), (_, old) = new_client("known", "predict"), new_client("revoked", "predict")
    write(file, known)
    basic = {"authorization": f"Basic {token}"}
    wrong: list[Any] = [
        {},
        {"authorization": "Bearer"},
        {"authorization": token},
        {"authorization": f"Bearer {old}"},
        {"authorization": f"Bearer {token[:-1]}"},
        {"authorization": f"Bearer {known.sha256[0]}"},
        basic,
        [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")],
        {"authorization": "Bearer " + "é" * 4000},
        {"x-forwarded-user": "known"},
        {"x-api-key": token},
    ]

    async def main() -> None:
        async with serving() as url, asking(url) as client:
            answers = [await client.post("/predict", headers=httpx.Headers(each, "utf-8")) for each in wrong]
            for path in set(PATHS) - {"/readyz"}:
                answers += [await client.get(path), await client.post(path), await client.get(f"{path}?key={token}")]
            assert {(each.status_code, each.headers["www-authenticate"], each.text) for each in answers} == {
                (401, "Bearer", '{"error":"a key is needed: Authorization: Bearer KEY"}')
            }
            assert (await client.get("/readyz")).status_code == 200
            right = await client.post("/predict", headers={"authorization": f"bearer  {token}"})
            assert right.json() == {"who": ["known"], "bytes": 0}

    before = refused("key", "test")._value.get(), counter(CLIENTS, "test", "known")._value.get()
    run(main)
    after = refused("key", "test")._value.get(), counter(CLIENTS, "test", "known")._value.get()
    assert (after[0] - before[0], after[1] - before[1]) == (len(wrong) + 3 * (len(PATHS) - 1), 1)


def test_keys_change_while_the_service_runs(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    many = [new_client(f"client-{number}", "predict") for number in range(100)]
    write(file, *(client for client, _ in many))
    (added, new) = new_client("added", "predict")
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    caplog.set_level(logging.INFO, "bentoml")

    async def statuses(url: str) -> list[int]:
        found = []
        for _, token in many:
            async with asking(url, token) as client:
                found.append((await client.post("/predict")).status_code)
        return found

    async def main() -> None:
        async with serving() as url, asking(url, many[0][1]) as first, asking(url, new) as last:
            assert await statuses(url) == [200] * 100

            async def status(client: httpx.AsyncClient) -> int:
                return (await client.post("/predict")).status_code

            write(file, *(client for client, _ in many[1:]), added)
            # On a connection that is open, too.
            await until(lambda: _equal(status(first), 401))
            assert await status(last) == 200
            assert await statuses(url) == [401] + [200] * 99
            for broken in ("clients: [", "clients: [{name: a}]", "", "2026-13-45", "[" * 3000):
                caplog.clear()
                file.write_text(broken)
                await until(lambda: _true("the service goes on" in caplog.text))
                assert len(caplog.messages) == 1 and str(file) in caplog.text and "\n" not in caplog.messages[0]
                assert await status(last) == 200
            file.unlink()
            await until(lambda: _true("No such file" in caplog.text))
            assert await status(last) == 200
            write(file)
            await until(lambda: _equal(status(last), 401))

    async def _equal(found: Any, expected: int) -> bool:
        return bool(await found == expected)

    async def _true(found: bool) -> bool:
        return found

    run(main)


def test_a_trusted_proxy_names_the_client_and_nobody_else_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (known, token) = new_client("program", "predict")
    staff = Client(name="ada", roles=("predict", "feedback"))
    write(file, known, staff)
    monkeypatch.setenv("SERVICE_TRUSTED_PROXIES", "127.0.0.2, 10.0.0.0/8 ::1")
    ada = {"x-forwarded-user": "ada"}

    async def main() -> None:
        async with serving() as url, asking(url, local="127.0.0.2") as proxy, asking(url) as other:
            assert (await proxy.post("/feedback", headers=ada)).json()["who"] == ["ada"]
            assert (await proxy.post("/metrics", headers=ada)).status_code == 403
            assert (await proxy.post("/predict", headers={"x-forwarded-user": "eve"})).status_code == 403
            assert (await proxy.post("/predict", headers=[*ada.items()] * 2)).status_code == 403
            assert (await proxy.post("/predict")).status_code == 401
            # A program comes through the proxy with a key of its own.
            key = {"authorization": f"Bearer {token}"}
            assert (await proxy.post("/predict", headers=key)).json()["who"] == ["program"]
            # uvicorn believes this header if it comes from this machine; the guard looks at the connection.
            for spoof in ({}, {"x-forwarded-for": "127.0.0.2"}, {"x-forwarded-for": "10.0.0.1, 127.0.0.2"}):
                assert (await other.post("/predict", headers=ada | spoof)).status_code == 401
                assert (await other.post("/predict", headers=ada | spoof | key)).json()["who"] == ["program"]
            write(file, known, staff, Client(name="*", roles=("predict",)))

            async def anybody() -> bool:
                answer = await proxy.post("/predict", headers={"x-forwarded-user": "eve@example.org"})
                return bool(answer.status_code == 200 and answer.json()["who"] == ["eve@example.org"])

            await until(anybody)
            assert (await other.post("/predict", headers={"x-forwarded-user": "eve"})).status_code == 401
            assert (await proxy.post("/feedback", headers={"x-forwarded-user": "eve"})).status_code == 403

    run(main)


def test_bodies_of_strangers_are_not_read(file: Path) -> None:
    write(file, new_client("known", "predict")[0])

    async def main() -> None:
        async with serving() as url:
            host, port = url.removeprefix("http://").split(":")
            for announced, kept in ((f"content-length: {2**30}", False), ("transfer-encoding: chunked", False)):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"POST /predict HTTP/1.1\r\nhost: here\r\n{announced}\r\n\r\n".encode())
                async with asyncio.timeout(5):  # the answer comes without a byte of the body, and ends the connection
                    assert (await reader.read()).startswith(b"HTTP/1.1 401 ") is not kept
                writer.close()
            async with asking(url) as client:
                for _ in range(2):
                    answer = await client.post("/predict", content=b"x" * 1000)
                    assert (answer.status_code, answer.headers.get("connection")) == (401, None)

    run(main)


def test_a_nearly_right_key_takes_no_longer_than_any_other(file: Path) -> None:
    """A digest is looked up: medians of 10,000 tries each, taken in turns, differ by less than their noise."""
    many = [new_client(f"client-{number}", "predict") for number in range(100)]
    write(file, *(client for client, _ in many))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        pass

    checked = guard.guarded(app, lambda reason: refused(reason, "test"), "test")
    token = many[50][1]
    flipped = "A" if token[-1] != "A" else "B"
    tokens = {"nearly": token[:-1] + flipped, "other": clients.new_key()[0], "right": token}
    scopes = {name: {"headers": [(b"authorization", f"Bearer {each}".encode())]} for name, each in tokens.items()}
    find: Callable[[Any], Any] = checked._client  # type: ignore[attr-defined]
    times: dict[str, list[int]] = {name: [] for name in scopes}
    for _ in range(10_000):
        for name, scope in scopes.items():
            begin = time.perf_counter_ns()
            try:
                find(scope)
            except Exception as error:
                assert name != "right", error
            times[name].append(time.perf_counter_ns() - begin)
    medians = {name: statistics.median(found) for name, found in times.items()}
    # A refusal raises an error, which the answer, 401, tells anyway: what must not differ are two wrong keys.
    assert abs(medians["nearly"] - medians["other"]) < 0.05 * medians["other"], medians
    assert hashlib.sha256(token.encode()).hexdigest() in many[50][0].sha256
