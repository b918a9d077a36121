"""The programs of the hosts with broken files and words: one line that names what is wrong, and nothing is changed."""

import copy
import json
import os
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import HARNESS

DELIVERY = HARNESS / "delivery"
pytestmark = pytest.mark.skipif(not (DELIVERY / "rollout.py").exists(), reason="there are no hosts")
RELEASE, BEFORE = "a" * 12, "b" * 12
STEPS: list[Any] = [
    {"setWeight": 50},
    {"pause": {"duration": "1s"}},
    {"analysis": {"templates": [{"templateName": "g"}]}},
]
SPEC = {
    "release": RELEASE,
    "image": "x@sha256:0",
    "model": {"sha256": "0" * 64},
    "replicas": 1,
    "memory": "512Mi",
    "deadlineSeconds": 1,
    "steps": STEPS,
}
HOSTS = {
    "all": {
        "children": {
            "balancer": {"hosts": {"lb": {"address": "127.0.0.1"}}},
            "servers": {"hosts": {"app": {"address": "127.99.99.99"}}},
        }
    }
}


@pytest.fixture
def root() -> Iterator[Path]:
    """A balancer on which the release before serves, and nothing runs."""
    with tempfile.TemporaryDirectory(prefix="files-") as folder:  # the path of a Unix socket has to be short
        path = Path(folder)
        for name in ("etc/model", "etc/haproxy", "var/lib/model", "run/haproxy"):
            (path / name).mkdir(parents=True)
        put(path, "etc/model/hosts.json", HOSTS)
        put(path, "etc/model/release.json", {"spec": SPEC})
        put(path, "var/lib/model/rollout.json", {"state": "warm", "releases": {"blue": BEFORE}})
        mapped(path)
        yield path


class Socket(socketserver.StreamRequestHandler):
    """Answers as HAProxy's socket does: the map is taken."""

    def handle(self) -> None:
        self.wfile.write(b"New version created: 1" if self.rfile.readline().startswith(b"prepare") else b"")


@pytest.fixture
def haproxy(root: Path) -> Iterator[None]:
    """What takes the map of the balancer."""
    with socketserver.ThreadingUnixStreamServer(str(root / "run/haproxy/admin.sock"), Socket) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield
        server.shutdown()


def put(root: Path, name: str, content: Any) -> None:
    (root / name).write_text(content if isinstance(content, str) else json.dumps(content))


def mapped(root: Path, share: int = 0, until: int = 0, candidate: str = "-") -> None:
    put(
        root,
        "var/lib/model/slots.map",
        f"stable blue\nshare {share}\nuntil {until}\ncandidate {candidate}\nrefused -\n",
    )


def told(root: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a command, which are no traceback."""
    program = "host.py" if words[0] in ("configure", "prepare", "ready") else "rollout.py"
    env = {**os.environ, "ROLLOUT_ROOT": str(root), "ROLLOUT_PROMETHEUS": "http://127.99.99.99:9"}
    command = [sys.executable, "-B", str(DELIVERY / program), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def refused(root: Path, *words: str) -> str:
    """The line with which a command is refused; it has changed nothing that was decided."""
    before = state(root)
    code, _, line = told(root, *words)
    assert code == 1 and line.startswith("error: ") and len(line.splitlines()) == 1, (words, code, line)
    assert state(root) == before, words
    return line


def state(root: Path) -> dict[str, bytes]:
    names = ("rollout.json", "slots.map", "history.jsonl", "targets.json")
    paths = [root / "var/lib/model" / name for name in names]
    return {path.name: path.read_bytes() for path in paths if path.exists()}


def spec(**values: Any) -> dict[str, Any]:
    return {"spec": {**SPEC, **values}}


def without(content: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A copy that lacks what the keys lead to."""
    at = made = copy.deepcopy(content)
    for key in keys[:-1]:
        at = at[key]
    del at[keys[-1]]
    return made


ADDRESS = ("all", "children", "servers", "hosts", "app", "address")
BROKEN = [
    *(("etc/model/release.json", content) for content in ("{", "[]", "5", "null", {}, {"spec": None})),
    *(("etc/model/release.json", without(spec(), "spec", key)) for key in ("release", "replicas", "steps")),
    *(("etc/model/release.json", spec(replicas=value)) for value in ("two", None, 0, 1.5)),
    ("etc/model/release.json", spec(deadlineSeconds="x")),
    *(("etc/model/release.json", spec(steps=value)) for value in (None, 5, "x")),
    *(
        ("etc/model/release.json", spec(steps=[{"setWeight": 50}, step]))
        for step in (
            None,
            "setWeight",
            ["setWeight"],
            {},
            {"pause": None},
            {"pause": {"duration": 5}},
            {"setWeight": "5"},
        )
    ),
    *(("etc/model/hosts.json", content) for content in ("", "[]", {}, {"all": {"children": {"servers": None}}})),
    *(("etc/model/hosts.json", without(HOSTS, *ADDRESS[:length])) for length in (3, 4, 5, 6)),
    *(("var/lib/model/rollout.json", content) for content in ("", "[]", "null", {"unknown": 1}, {"step": "x"})),
    *(("var/lib/model/rollout.json", {key: None}) for key in ("state", "releases", "steps", "since")),
    *(("var/lib/model/rollout.json", content) for content in ({"stable": "red"}, {"releases": {"red": "x"}})),
    ("var/lib/model/rollout.json", {"candidate": RELEASE, "state": "step", "steps": [None]}),
]


@pytest.mark.usefixtures("haproxy")
def test_a_broken_line_is_named(root: Path) -> None:
    """What a crash has left unfinished is no line; the next event takes its place."""
    for line in ("stable red", "share", "share 5 %", "until 1.5", "candidate", "unknown x", ""):
        put(root, "var/lib/model/slots.map", f"stable blue\n{line}\n")
        for words in (["run", RELEASE], ["run", RELEASE, "--check"], ["status"], ["status", "--json"]):
            assert f"{root}/var/lib/model/slots.map, line 2, is wrong: `stable blue`" in refused(root, *words), line
    mapped(root)
    for line in ("", "{", "time"):
        put(root, "var/lib/model/history.jsonl", f'{{"event": "x"}}\n{line}\n{{"event": "y"}}\n')
        assert f"{root}/var/lib/model/history.jsonl, line 2, is wrong: " in refused(root, "status", "--json"), line
    put(root, "var/lib/model/history.jsonl", '{"event": "x"}\n{"event": "unfini')
    code, output, _ = told(root, "status", "--json")
    assert code == 0 and json.loads(output)["history"] == [{"event": "x"}]
    put(root, "var/lib/model/rollout.json", {"refused": RELEASE})
    assert told(root, "again")[0] == 0
    lines = (root / "var/lib/model/history.jsonl").read_text().splitlines()
    assert len(lines) == 2 and "may be tried again" in json.loads(lines[1])["event"]


@pytest.mark.usefixtures("haproxy")
def test_a_broken_file_is_named_and_nothing_is_saved(root: Path) -> None:
    for name, content in BROKEN:
        kept = (root / name).read_text()
        put(root, name, content)
        assert Path(name).name in refused(root, "run", RELEASE), (name, content)
        put(root, name, kept)
    for name in ("etc/model/release.json", "etc/model/hosts.json"):
        kept = (root / name).read_text()
        (root / name).unlink()
        assert f"{root / name} does not exist: deploy first" in refused(root, "run", RELEASE)
        put(root, name, kept)


def test_a_release_without_a_name_is_never_rolled_out(root: Path) -> None:
    """Nothing answers in the other slot, which must not count as ready with nothing."""
    assert "no release is named" in refused(root, "run", "")
    assert "no release is named" in refused(root, "run", "", "--check")
    before = state(root)
    words = (
        ["run"],
        ["abort", "x"],
        ["undo", "x"],
        ["again", "x"],
        ["status", "x"],
        ["run", "x", "y"],
        ["abort", "--check"],
    )
    for each in words:
        code, _, usage = told(root, *each)
        assert code == 2 and "usage: " in usage, each
    program = "import rollout; r = rollout.Rollout.load(); print(r.lacking(''), r.lacking('x'))"
    env = {**os.environ, "ROLLOUT_ROOT": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=DELIVERY, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "['app-1'] ['app-1']\n"
    assert state(root) == before


def test_a_rollout_whose_controller_is_away_gets_no_share_back(root: Path) -> None:
    releases = {"blue": BEFORE, "green": RELEASE}
    here = {"state": "step", "share": 5000, "candidate": RELEASE, "steps": STEPS, "releases": releases}
    put(root, "var/lib/model/rollout.json", here)
    mapped(root, 5000, int(time.time()) - 60, RELEASE)
    assert f"a rollout of {RELEASE} is under way: wait for its end, or abort it" in refused(root, "again")
    assert "nothing to undo" in refused(root, "undo")


def test_abort_and_again_say_that_there_is_nothing_to_do(root: Path) -> None:
    before = state(root)
    assert told(root, "abort") == (0, "no rollout is under way\n", "")
    assert told(root, "again") == (0, "no release was rolled back: there is nothing to try again\n", "")
    assert state(root) == before


def test_who_waits_for_haproxy_says_so_once(root: Path) -> None:
    env = {**os.environ, "ROLLOUT_ROOT": str(root)}
    command = [sys.executable, "-B", str(DELIVERY / "rollout.py"), "run", RELEASE]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"waiting for HAProxy at {root}/run/haproxy/admin.sock\n"
        looks = (root / "var/lib/model/slots.map").stat().st_ino
        end = time.monotonic() + 30
        while (root / "var/lib/model/slots.map").stat().st_ino == looks and time.monotonic() < end:
            time.sleep(0.02)  # until it has tried again
        process.terminate()
        assert process.stdout.read() == ""


def test_before_the_first_deployment(tmp_path: Path) -> None:
    for command in (["run", RELEASE], ["undo"], ["again"]):
        assert refused(tmp_path, *command) == f"error: {tmp_path}/var/lib/model does not exist: deploy first\n"
    assert told(tmp_path, "abort")[0] == told(tmp_path, "status")[0] == 0
    assert refused(tmp_path, "prepare") == f"error: {tmp_path}/etc/model/release.json does not exist: deploy first\n"
    assert refused(tmp_path, "configure") == f"error: {tmp_path}/etc/model/hosts.json does not exist: deploy first\n"


def test_a_host_names_its_broken_files(root: Path) -> None:
    of_release = ["{", "[]", "null", {}, without(spec(), "spec", "replicas"), spec(replicas="two"), spec(replicas=0)]
    of_release += [without(spec(), "spec", "image"), spec(model=None), spec(memory=5)]
    of_hosts = ["", "[]", {}, *(without(HOSTS, *ADDRESS[:length]) for length in (3, 4, 5, 6))]
    for name, contents in (("release", of_release), ("hosts", of_hosts)):
        path = root / f"etc/model/{name}.json"
        kept = path.read_text()
        for content in contents:
            put(root, f"etc/model/{name}.json", content)
            assert f"{path} is wrong: " in refused(root, "configure"), (name, content)
        path.write_text(kept)
    for name in ("blue", "red-1", "blue-x", "blue-", "-1", "blue-0", "blue-1-1"):
        assert "is no container" in refused(root, "ready", "--", name)
    assert "blue.env does not say which release runs there" in refused(root, "ready", "blue-1")
    put(root, "etc/model/blue.env", "ADDRESS")
    assert "blue.env, line 1, is wrong: it has to be NAME=value" in refused(root, "ready", "blue-1")
