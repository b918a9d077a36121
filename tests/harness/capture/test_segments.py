"""Segments are complete or absent: real files, real encryption, real kills."""

import gzip
import json
import os
import resource
import shutil
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyrage
import pytest
from my_experiment.harness.capture import segments
from my_experiment.harness.capture.segments import Counts, Segments, remove_old
from my_experiment.harness.capture.settings import Settings

IDENTITY = pyrage.x25519.Identity.generate()


class Counted:
    """What was counted."""

    def __init__(self) -> None:
        self.rows = self.size = 0
        self.dropped: dict[str, int] = {}

    @property
    def functions(self) -> Counts:
        return Counts(self._rows, self._size, self._dropped)

    def _rows(self, count: int) -> None:
        self.rows += count

    def _size(self, size: int) -> None:
        self.size += size

    def _dropped(self, reason: str, count: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count


@pytest.fixture
def counted() -> Counted:
    return Counted()


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(folder, recipient=IDENTITY.to_public(), **changes)


def line(number: int) -> bytes:
    return json.dumps({"number": number, "padding": "x" * 100}).encode() + b"\n"


def numbers(folder: Path) -> list[int]:
    """The numbers of all lines in all closed segments; fails if one is damaged."""
    found = []
    for file in sorted(folder.rglob("*.jsonl.gz.age")):
        lines = gzip.decompress(pyrage.decrypt(file.read_bytes(), [IDENTITY])).decode().splitlines(keepends=True)
        assert all(text.endswith("\n") for text in lines)
        found += [json.loads(text)["number"] for text in lines]
    return found


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_clock_that_is_set_back_keeps_no_segment_open(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Segments(settings(tmp_path), counted.functions, seconds=0.02)
    written.add(line(0), 1)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    ends = time.monotonic() + 20
    while not files(tmp_path) and time.monotonic() < ends:
        written.close_if_due()
    assert numbers(tmp_path) == [0]


def test_a_segment_is_whole_private_and_named_by_time_host_and_process(tmp_path: Path, counted: Counted) -> None:
    written = Segments(settings(tmp_path), counted.functions)
    for number in range(3):
        written.add(line(number), 2)
    assert files(tmp_path) == []  # what is open is in memory
    written.close()
    (file,) = files(tmp_path)
    name = file.relative_to(tmp_path).as_posix()
    assert name.startswith(f"{datetime.now(UTC):%Y/%m/%d/}") and name.endswith(f"-{os.getpid()}.jsonl.gz.age")
    assert file.stat().st_mode & 0o777 == 0o600
    assert {folder.stat().st_mode & 0o777 for folder in tmp_path.rglob("*") if folder.is_dir()} == {0o700}
    assert numbers(tmp_path) == [0, 1, 2]
    assert (counted.rows, counted.size, counted.dropped) == (6, file.stat().st_size, {})
    written.close()
    assert len(files(tmp_path)) == 1  # an empty one is not written


def test_only_its_recipient_reads_a_segment_and_a_flipped_bit_is_refused(tmp_path: Path, counted: Counted) -> None:
    written = Segments(settings(tmp_path), counted.functions)
    written.add(line(1), 1)
    written.close()
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    assert b"number" not in data and b"\x1f\x8b" not in data[:2]
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(bytes(data), [pyrage.x25519.Identity.generate()])
    for place in range(0, len(data), 7):
        changed = data.copy()
        changed[place] ^= 1
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(bytes(changed), [IDENTITY])


def test_a_segment_is_closed_when_it_is_full_or_old(tmp_path: Path, counted: Counted) -> None:
    written = Segments(settings(tmp_path), counted.functions, seconds=0.05, most=3 * len(line(0)))
    for number in range(4):
        written.add(line(number), 1)
    assert numbers(tmp_path) == [0, 1, 2]
    written.close_if_due()
    assert len(files(tmp_path)) == 1
    time.sleep(0.06)
    written.close_if_due()
    assert numbers(tmp_path) == [0, 1, 2, 3]


def test_without_a_recipient_it_is_plain(tmp_path: Path, counted: Counted) -> None:
    written = Segments(Settings(tmp_path), counted.functions)
    written.add(line(1), 1)
    written.close()
    (file,) = files(tmp_path)
    assert file.name.endswith(".jsonl.gz") and gzip.decompress(file.read_bytes()) == line(1)


def test_a_killed_process_leaves_no_half_segment(tmp_path: Path, counted: Counted) -> None:
    """Check 11: kill -9 at 20 moments."""
    ends = 0
    for moment in range(20):
        child = os.fork()
        if not child:
            written = Segments(settings(tmp_path), counted.functions, most=20_000)
            number = 0
            while True:
                written.add(line(number), 1)
                number += 1
        time.sleep(0.02 + moment * 0.003)
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        found = [number for file in sorted(tmp_path.rglob(f"*-{child}.jsonl.gz.age")) for number in one(file)]
        assert found == [*range(len(found))]  # all that was closed, in order, and no half line
        ends += len(found)
    assert ends > 20 * 100
    parts = [file for file in files(tmp_path) if file.suffix == ".part"]
    assert remove_old(tmp_path, 30, datetime.now(UTC) + timedelta(hours=2)) > 0
    assert not any(part.exists() for part in parts) and len(numbers(tmp_path)) == ends


def one(file: Path) -> list[int]:
    text = gzip.decompress(pyrage.decrypt(file.read_bytes(), [IDENTITY])).decode()
    return [json.loads(text)["number"] for text in text.splitlines()]


def test_a_full_disk_is_waited_for_then_drops_and_tells_once(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(segments, "RETRY", 0.0)
    written = Segments(settings(tmp_path), counted.functions, most=4 * len(line(0)))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))
    try:
        for number in range(10):
            written.add(line(number), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert counted.dropped == {"disk": 6} and files(tmp_path) == []
    (told,) = messages(caplog)
    assert told == f"SERVICE_LOG: nothing can be kept now, answers go on: {tmp_path}: File too large"
    written.add(line(10), 1)
    written.close()
    assert numbers(tmp_path) == [0, 1, 2, 3, 10]  # what waited is not lost
    assert messages(caplog) == [told, "SERVICE_LOG: everything is kept again"]
    assert counted.rows == 5


def test_a_folder_that_is_gone_is_not_made_again(
    tmp_path: Path, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    written = Segments(settings(folder), counted.functions)
    shutil.rmtree(folder)
    written.add(line(0), 3)
    written.close()
    written.close(last=True)
    assert counted.dropped == {"disk": 3} and not folder.exists()
    assert messages(caplog) == [f"SERVICE_LOG: nothing can be kept now, answers go on: {folder}: the folder is gone"]


def test_old_segments_are_removed_and_the_folder_has_a_bound(tmp_path: Path, counted: Counted) -> None:
    for day in ("2020/01/31", "2020/02/01"):
        (tmp_path / day).mkdir(parents=True)
        (tmp_path / day / "000000.000000-host-1.jsonl.gz").write_bytes(bytes(1000))
        (tmp_path / day / "note.txt").write_text("not a segment")
    assert remove_old(tmp_path, 7, datetime(2020, 2, 8, tzinfo=UTC)) == 1000
    assert [file.parent.name for file in files(tmp_path) if file.suffix == ".gz"] == ["01"]
    assert len(list(tmp_path.rglob("note.txt"))) == 2

    bounded = Segments(settings(tmp_path, days=36_500, most_bytes=1100), counted.functions)
    bounded.add(line(0), 1)
    bounded.close(last=True)  # age's header alone takes 200 bytes
    assert counted.dropped == {"disk": 1} and len(files(tmp_path)) == 3
