"""The audit log: one chain of several processes, in which nothing can be changed unnoticed."""

import hashlib
import itertools
import json
import logging
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from my_experiment.harness import audit
from my_experiment.harness.audit import chain, trail
from my_experiment.harness.audit.chain import Entry
from my_experiment.harness.audit.trail import Trail
from my_experiment.harness.audit.verify import command, verify
from my_experiment.harness.core.errors import UserError
from support import HARNESS, ROOT

Lines = list[bytes]


def read(folder: Path) -> Lines:
    return (folder / chain.FILE).read_bytes().splitlines(keepends=True)


def contents(folder: Path) -> list[dict[str, Any]]:
    return [*map(contents_of, read(folder))]


def contents_of(line: bytes) -> dict[str, Any]:
    return dict(json.loads(line))


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A chain of nine lines."""
    for number in range(1, 10):
        chain.append(tmp_path, [Entry(1.8e9 + number, "feedback", {"client": "ward 3", "right": number})])
    return read(tmp_path)


def edited(lines: Lines, place: int, old: bytes, new: bytes) -> Lines:
    assert old in lines[place]
    return [*lines[:place], lines[place].replace(old, new), *lines[place + 1 :]]


def test_every_event_is_in_the_documentation() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in HARNESS.rglob("*.py"))
    events = {*re.findall(r'\brecord\("([a-z ]+)"', code)}
    told = {*re.findall("`([a-z ]+)`", (ROOT / "docs/audit.md").read_text(encoding="utf-8"))}
    assert "start" in events and events <= told


def test_each_line_has_the_hash_of_the_line_before(lines: Lines, tmp_path: Path) -> None:
    for before, line in itertools.pairwise(lines):
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()
    head = chain.head(tmp_path)
    assert str(head) == f"9:{hashlib.sha256(lines[-1]).hexdigest()}"
    assert verify(lines) == verify(lines, str(head)) == verify(lines, head.digest) == (head, [])
    middle = f"4:{hashlib.sha256(lines[3]).hexdigest()}"
    assert verify(lines, middle).findings == []  # lines that were added later
    assert (tmp_path / chain.FILE).stat().st_mode & 0o777 == 0o600


CHANGES: dict[str, tuple[Callable[[Lines], Lines], str]] = {
    "changed": (
        lambda x: edited(x, 4, b'"right":5', b'"right":6'),
        "line 5 was changed: line 6 has another hash of it",
    ),
    "first changed": (lambda x: edited(x, 0, b"ward 3", b"ward 4"), "line 1 was changed: line 2 has another"),
    "another beginning": (lambda x: edited(x, 0, b'"previous":"0', b'"previous":"1'), "line 1 was changed"),
    "removed": (lambda x: x[:4] + x[5:], "line 5 was removed"),
    "two removed": (lambda x: x[:4] + x[6:], "lines 5 to 6 were removed"),
    "beginning removed": (lambda x: x[3:], "lines 1 to 3 were removed"),
    "swapped": (lambda x: [*x[:4], x[5], x[4], *x[6:]], "lines 5 and 6 are swapped: it stands in place 6"),
    "moved": (lambda x: [*x[:4], *x[5:], x[4]], "line 5 is out of place: it stands in place 9"),
    "repeated": (lambda x: [*x[:5], *x[4:]], "line 5 is there twice, or its number was changed, in place 6"),
    "cut": (lambda x: [*x[:4], x[4][:30] + b"\n", *x[5:]], "line 5 is cut off or no JSON"),
    "last cut": (lambda x: [*x[:8], x[8][:30]], "line 9 is cut off or no JSON"),
    "last end cut": (lambda x: [*x[:8], x[8][:-1]], "line 9 is cut off or no JSON"),
    "numbered": (lambda x: edited(x, 4, b'"n":5', b'"n":5000000000'), "the number of the line in place 5 was changed"),
    "end removed": (lambda x: x[:7], "line 9 of the given head is not there: it was changed, or lines were removed"),
    "last changed": (lambda x: edited(x, 8, b'"right":9', b'"right":8'), "line 9 of the given head is not there"),
    "all removed": (lambda x: [], "line 9 of the given head is not there"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_done_to_it_is_named(change: str, lines: Lines, tmp_path: Path) -> None:
    head = chain.head(tmp_path)
    do, told = CHANGES[change]
    (tmp_path / chain.FILE).write_bytes(b"".join(do(lines)))
    findings = verify(read(tmp_path), str(head)).findings
    assert findings and findings[0].startswith(told), findings
    done = CliRunner().invoke(command, ["verify", str(tmp_path), "--head", str(head)])
    assert isinstance(done.exception, UserError) and told in str(done.exception) and told in done.output


def test_a_chain_that_was_written_anew_is_betrayed_by_its_head(lines: Lines, tmp_path: Path) -> None:
    head = chain.head(tmp_path)
    (tmp_path / chain.FILE).unlink()
    for number in range(1, 10):
        chain.append(tmp_path, [Entry(1.8e9 + number, "feedback", {"client": "ward 3", "right": 2 * number})])
    assert verify(read(tmp_path)).findings == []
    assert verify(read(tmp_path), str(head)).findings[0].startswith("line 9 of the given head is not there")
    assert "a log that was cut at its end looks whole" in CliRunner().invoke(command, ["verify", str(tmp_path)]).output


PROCESS = """
import sys
from pathlib import Path
from my_experiment.harness.audit import chain
sys.stdin.read()
for number in range(100):
    chain.append(Path(sys.argv[1]), [chain.Entry(float(number), "x", {"worker": sys.argv[2], "number": number})] * 2)
"""


def test_several_processes_write_one_chain(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", PROCESS, tmp_path, str(worker)], stdin=subprocess.PIPE)
        for worker in range(4)
    ]
    for worker in workers:  # they begin together
        assert worker.stdin
        worker.stdin.close()
    assert [worker.wait() for worker in workers] == [0] * 4
    verdict = verify(read(tmp_path))
    assert verdict.head.number == 800 and verdict.findings == []
    written = [(line["worker"], line["number"]) for line in contents(tmp_path)]
    for name in "0123":  # none is lost, and those of a process are in order
        assert [number for each, number in written if each == name] == [n for n in range(100) for _ in "ab"]


def test_a_line_cut_by_a_power_failure_stays_and_is_named(lines: Lines, tmp_path: Path) -> None:
    (tmp_path / chain.FILE).write_bytes(b"".join(lines)[:-40])
    chain.append(tmp_path, [Entry(0.0, "start", {})] * 2)
    assert [json.loads(line)["n"] for line in read(tmp_path)[9:]] == [10, 11]
    assert verify(read(tmp_path), str(chain.head(tmp_path))).findings == ["line 9 is cut off or no JSON"]


@pytest.mark.parametrize("written", [b'{"n": 1e999}', b"[" * 100_000, b'{"n": null}', b"[]", b"\xff"])
def test_a_line_that_somebody_has_written_stops_nobody(lines: Lines, tmp_path: Path, written: bytes) -> None:
    with (tmp_path / chain.FILE).open("ab") as file:
        file.write(written + b"\n")
    running = Trail(tmp_path)
    running.append(Entry(1.9e9, "feedback", {"client": "after"}))
    running.close()
    assert contents_of(read(tmp_path)[-1])["client"] == "after"
    assert f"line {len(lines) + 1} is cut off or no JSON" in verify(read(tmp_path)).findings


def test_lines_longer_than_what_is_read_at_once(lines: Lines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "TAIL", 50)
    assert chain.append(tmp_path, [Entry(0.0, "stop", {})]).number == 10
    assert verify(read(tmp_path)).findings == []


def test_a_full_disk_leaves_no_half_line(lines: Lines, tmp_path: Path) -> None:
    file = tmp_path / chain.FILE
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(OSError):
            chain.append(tmp_path, [Entry(0.0, "stop", {})])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before


def test_text_of_a_client_cannot_forge_a_line(tmp_path: Path) -> None:
    evil = 'x"}\n{"n":2,"event":"stop"}\r\x1b[2J\u2028' + "y" * 1000
    chain.append(tmp_path, [Entry(0.0, "key refused", {"client": evil})])
    (line,) = read(tmp_path)
    assert line.isascii() and b"\x1b" not in line and len(line) < 600
    assert json.loads(line)["client"] == evil[:200]


def test_nothing_is_recorded_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVICE_AUDIT", raising=False)
    monkeypatch.chdir(tmp_path)
    audit.start()
    audit.record("key refused", client="x")
    audit.stop()
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="SERVICE_AUDIT is not set: name the audit log"):
        CliRunner().invoke(command, ["verify"], catch_exceptions=False)


def test_a_command_records_before_it_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_AUDIT", str(tmp_path / "audit"))
    audit.record("champion", version="m/3")
    (line,) = contents(tmp_path / "audit")
    assert (line["n"], line["event"], line["version"], line["process"]) == (1, "champion", "m/3", os.getpid())
    assert line["by"] and capsys.readouterr().err == f"audit: head {chain.head(tmp_path / 'audit')}\n"
    (tmp_path / "audit" / chain.FILE).unlink()
    (tmp_path / "audit" / chain.FILE).mkdir()
    with pytest.raises(UserError, match="cannot record 'champion', which is therefore not done: Is a directory"):
        audit.record("champion", version="m/4")
    monkeypatch.setenv("SERVICE_AUDIT", str(tmp_path / "audit" / chain.FILE / "x" / ("y" * 300)))
    with pytest.raises(UserError, match=r"SERVICE_AUDIT=.*: the folder cannot be made: File name too long"):
        audit.record("champion", version="m/4")


def test_a_service_goes_on_without_the_folder_and_writes_what_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trail, "PERIOD", 0.01)
    caplog.set_level(logging.INFO, "bentoml")
    folder = tmp_path / "audit"
    monkeypatch.setenv("SERVICE_AUDIT", str(folder))
    audit.start()
    folder.rename(tmp_path / "gone")
    audit.record("feedback", client="a")
    while "nothing can be recorded now, answers go on" not in caplog.text:
        pass
    (tmp_path / "gone").rename(folder)
    audit.stop()
    assert [line["event"] for line in contents(folder)] == ["feedback"]
    assert caplog.messages[-2:] == [f"audit: head {chain.head(folder)}", "SERVICE_AUDIT: everything is recorded again"]


def test_a_flood_fills_no_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bentoml")
    written = Trail(tmp_path)
    for _ in range(5000):
        written.append(Entry(1.8e9, "key refused", {"address": "::1"}))
    written.append(Entry(1.8e9, "feedback", {"client": "a"}))
    written.close()
    lines = contents(tmp_path)
    kinds = [line["event"] for line in lines]
    assert kinds.count("key refused") == trail.MOST_A_MINUTE and kinds.count("feedback") == 1
    omitted = [line for line in lines if line["event"] == "omitted"]
    assert sum(line["count"] for line in omitted) == 5000 - trail.MOST_A_MINUTE
    assert {line["of"] for line in omitted} == {"key refused"}
    assert caplog.messages[-1] == f"audit: head {chain.head(tmp_path)}"


@pytest.mark.parametrize("head", ["12", "12:abc", "abc", "0:" + "a" * 64])
def test_a_wrong_head_is_one_line(head: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--head {head}: NUMBER:HASH or HASH is expected"):
        CliRunner().invoke(command, ["verify", str(tmp_path), "--head", head], catch_exceptions=False)


def test_a_missing_log_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"audit.jsonl: No such file or directory"):
        CliRunner().invoke(command, ["verify", str(tmp_path)], catch_exceptions=False)
