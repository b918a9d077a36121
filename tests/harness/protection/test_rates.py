"""Limits of clients on a real server: requests in a time, answers in a day; counted here or in a real Redis."""

import asyncio
import logging
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from asking import asking, new_client, run, serving, write
from debian import apt_install
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.protection import guard, rates, settings, shared, windows
from processes import running


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SERVICE_KEYS", str(tmp_path / "keys.yaml"))
    return tmp_path / "keys.yaml"


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """A Redis server, whose address the service gets; a Unix socket cannot be in use."""
    if not shutil.which("redis-server"):
        apt_install("redis-server")
    address = tmp_path / "redis.sock"
    command = ("redis-server", "--port", "0", "--unixsocket", address, "--save", "", "--dir", tmp_path)
    with running(*command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not address.is_socket():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)  # between two looks at the condition
        monkeypatch.setenv("SERVICE_RATE_STORAGE", f"redis+unix://{address}")
        yield process


async def flood(url: str, token: str, seconds: float) -> list[float]:
    """Asks without pause from eight connections; times of the requests that were answered with 200, from the start."""
    begin, times = time.monotonic(), []

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() - begin < seconds:
            answer = await client.post("/predict")
            if answer.status_code == 200:
                times.append(time.monotonic() - begin)
            else:
                assert answer.status_code == 429 and 1 <= int(answer.headers["retry-after"]) <= 2, answer.text

    async with asking(url, token) as client:
        await asyncio.gather(*(one(client) for _ in range(8)))
    return sorted(times)


def test_a_flood_gets_its_rate_and_others_are_not_hindered(file: Path) -> None:
    (many, token), (few, other) = new_client("many", "predict", rate="10/second"), new_client("few", "predict")
    write(file, many, few)

    async def main() -> None:
        async with serving() as url, asking(url, other) as calm:
            flooding, waits = asyncio.create_task(flood(url, token, 6)), []
            while not flooding.done():
                begin = time.monotonic()
                assert (await calm.post("/predict")).status_code == 200
                waits.append(time.monotonic() - begin)
                await asyncio.sleep(0.05)  # a client that asks now and then
            times = await flooding
            # The first second after a pause may have twice the rate.
            steady = [each for each in times if each > 1]
            assert 40 <= len(steady) <= 55 and len(times) <= 75, times
            assert sorted(waits)[len(waits) // 2] < 0.25, waits

    run(main)


def test_answers_of_a_day_are_counted_by_rows(file: Path) -> None:
    (known, token), (free, other) = new_client("known", "predict", "metrics", answers=10), new_client("free", "predict")
    write(file, known, free)

    async def main() -> None:
        async with serving() as url, asking(url, token) as client, asking(url, other) as unlimited:
            assert (await client.post("/predict?rows=8")).status_code == 200
            much = await client.post("/predict?rows=3")
            assert (much.status_code, much.json()) == (429, {"error": "3 answers are more than are left of 10 a day"})
            assert 3600 < int(much.headers["retry-after"]) <= 2 * 86400
            assert (await client.post("/predict?rows=2")).status_code == 200
            end = await client.post("/predict?rows=1")
            assert (end.status_code, end.json()) == (429, {"error": "at most 10 answers a day"})
            assert (await client.get("/metrics")).status_code == 200  # no answer of the model
            assert (await unlimited.post("/predict?rows=1000")).status_code == 200

    run(main)


def test_who_waits_as_long_as_told_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of the test's own: a limit of a day takes days."""
    clock, chance = 1e6, random.Random(0)
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    for limit in (rates.rate("10/second"), rates.rate("1/minute"), rates.answers(1000)):
        counted, length, refused = windows.Windows(), limit.get_expiry(), 0
        allowed: list[tuple[float, int]] = []
        for _ in range(2000):
            clock += chance.expovariate(20 / length)
            cost = chance.randint(0, limit.amount // 3) or 1
            wait = counted.spend(limit, "client", cost)
            if wait:
                refused += 1
                assert wait <= 2 * length
                before, clock = clock, clock + wait - 1
                if wait > 1:  # told exactly, up to a second
                    assert counted.spend(limit, "client", cost)
                clock = before + wait
                assert counted.spend(limit, "client", cost) == 0
            allowed.append((clock, cost))
            assert counted.spend(limit, "another", 0) == 0
        assert refused > 50
        first, last = allowed[0][0], allowed[-1][0]
        assert sum(each for _, each in allowed) <= limit.amount * ((last - first) / length + 2)


def test_clients_of_the_past_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, limit = 1e6, rates.rate("10/second")
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    counted = windows.Windows()
    for number in range(100_000):
        clock += 0.001  # so that about 2,000 of them count
        assert counted.spend(limit, f"client {number}", 10) == 0
    assert len(counted._counts) <= 8000
    assert counted.spend(limit, f"client {number}", 1)
    assert counted.spend(limit, "much", 11) == 1  # never all at once


def test_one_limit_for_all_processes_in_redis(
    file: Path, redis: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known, token = new_client("known", "predict", rate="6/hour", answers=100)
    write(file, known)
    monkeypatch.setattr(logging.getLogger("bentoml"), "propagate", True)
    monkeypatch.setattr(shared, "PAUSE", 0.0)

    async def main() -> None:
        async with (
            serving() as one,
            serving() as another,
            asking(one, token) as first,
            asking(another, token) as second,
        ):
            asked = [await client.post("/predict?rows=30") for client in (first, second) * 2]
            assert [each.status_code for each in asked] == [200, 200, 200, 429]
            assert asked[-1].json() == {"error": "30 answers are more than are left of 100 a day"}
            asked = [await client.post("/predict") for client in (first, second) * 2]
            assert [each.status_code for each in asked] == [200, 200, 429, 429]
            redis.kill()
            redis.wait()
            # Each counts for itself, and says so.
            asked = [await first.post("/predict") for _ in range(7)]
            assert [each.status_code for each in asked] == [200] * 6 + [429]
            assert "Redis does not answer" in caplog.text

    run(main)


def test_a_process_takes_a_share_of_a_rate_from_redis(redis: "subprocess.Popen[bytes]") -> None:
    limit, address = rates.rate("500/hour"), os.environ["SERVICE_RATE_STORAGE"]

    async def main() -> None:
        processes = [rates.Rates(address) for _ in range(2)]
        allowed = [0, 0]
        for number in range(800):
            allowed[number % 2] += await processes[number % 2].spend(limit, "client") == 0
        assert 490 <= sum(allowed) <= 501 and min(allowed) >= 240  # not exactly, should an hour end here
        # Nothing of a share is lost if rows do not divide it, or if two requests take shares at once.
        spent, many = rates.Rates(address), rates.answers(10_000)
        asked = [await asyncio.gather(*(spent.spend(many, "client", 70) for _ in range(2))) for _ in range(100)]
        assert 140 <= sum(seconds == 0 for each in asked for seconds in each) <= 142
        assert await spent.spend(many, "client", 0) == 0 or await spent.spend(many, "client", 1)

    run(main)


def test_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known, _ = new_client("known", "predict", rate="6/hour")
    write(file, known)
    told = guard.check()
    assert told and "; each process counts for itself: SERVICE_RATE_STORAGE names a Redis" in told
    monkeypatch.setenv("SERVICE_RATE_STORAGE", "rediss://host:6379/1")
    told = guard.check()
    assert told and told.endswith("may ask")
    for wrong in ("memory://", "localhost:6379", "redis://host:port"):
        monkeypatch.setenv("SERVICE_RATE_STORAGE", wrong)
        with pytest.raises(UserError, match=r"^SERVICE_RATE_STORAGE: .+$"):
            guard.check()
    with pytest.raises(UserError, match="SERVICE_RATE_STORAGE without SERVICE_KEYS"):
        settings.read({"SERVICE_RATE_STORAGE": "redis://host"})
