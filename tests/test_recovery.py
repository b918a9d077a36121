"""Backups and a restore by the commands of docs/recovery.md, on a machine that has nothing else."""

import contextlib
import gzip
import hashlib
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyrage
import pytest
from conftest import VENV, BakedProject, Copy, Result, execute, free_port, need_rsync, wait_until_ready
from loop import rows
from processes import running
from test_readme import blocks, serve, stop

pytestmark = pytest.mark.pipeline

MODULE = "python -m my_experiment"
ROWS = [{name: value for name, value in row.items() if name != "level"} for row in rows(5, 3)]
EXPERIMENTS = "git for-each-ref 'refs/exps/??/*/*'"  # without those that DVC has while it works
# Writes runs until it is killed: one that does not end, then one after the other.
WRITER = """
from my_experiment.harness.tracking import store
client = store.client()
experiment = store.experiment(client)
for number in range(100_000):
    run = client.create_run(experiment, tags={"written": str(number)}).info.run_id
    for name in "abc":
        client.log_text(run, name * 100_000, f"{name}.txt")
    if number:
        client.set_terminated(run, "FINISHED")
    print(number, flush=True)
"""


@dataclass(frozen=True)
class Machine:
    """A home, and a folder of projects in it, on a disk of its own; backups are on other ones.

    Attributes:
        home: The home folder.
        disks: The folder that has what is mounted at /mnt.
    """

    home: Path
    disks: Path

    @property
    def project(self) -> BakedProject:
        return BakedProject(self.home / "work/my-experiment")

    def env(self, **variables: str) -> dict[str, str]:
        """The environment of a person there: no cache of another one is in it, but that of uv."""
        cache = execute("uv", "cache", "dir", cwd=self.disks).stdout.strip()
        own = {"HOME": str(self.home), "DVC_SITE_CACHE_DIR": str(self.home / "dvc"), "UV_CACHE_DIR": cache}
        return {**own, "BENTOML_HOME": str(self.home / "bentoml"), "PYTHONPATH": "src", **variables}

    def type(
        self, *lines: str, cwd: Path | None = None, check: bool = True, env: Mapping[str, str] | None = None
    ) -> Result:
        """Types lines of the page, or runs them as a script that ends at the first error."""
        script = "\n".join(lines).replace("/mnt/", f"{self.disks}/")
        folder = cwd or self.project.path
        return execute("bash", "-e", "-c", script, cwd=folder, env={**self.env(), **(env or {})}, check=check)


@contextmanager
def service(machine: Machine, **variables: str) -> Iterator[httpx.Client]:
    """The service, until the end of the block."""
    port = free_port()
    settings = shlex.join(f"{name}={value}" for name, value in machine.env(**variables).items())
    with serve(machine.project, f"exec env {settings} {MODULE} serve --port {port}", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
        assert "Traceback" not in stop(server)


def predict(client: httpx.Client, key: str) -> httpx.Response:
    """Asks for a few rows with a key."""
    return client.post("/predict", json={"instances": ROWS}, headers={"authorization": f"Bearer {key}"})


@contextmanager
def runs_are_written(machine: Machine) -> Iterator[None]:
    """Begins when a few runs are finished; the process that writes them is killed at the end of the block."""
    env = {**machine.env(), "PATH": f"{VENV / 'bin'}:/usr/bin:/bin"}
    with running(sys.executable, "-c", WRITER, cwd=machine.project.path, env=env, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        for expected in range(4):
            assert int(writer.stdout.readline()) == expected
        yield
        assert writer.poll() is None


def test_a_new_machine_has_what_the_backups_have(table_project: BakedProject, copy: Copy, tmp_path: Path) -> None:
    need_rsync()
    disks = tmp_path / "mnt"
    old, new = Machine(tmp_path / "old", disks), Machine(tmp_path / "new", disks)
    for folder in (disks / "backup", disks / "vault", new.project.path.parent, old.project.path.parent):
        folder.mkdir(parents=True)
    copy(table_project).path.rename(old.project.path)
    page = old.project.read("docs/recovery.md")
    (remote,) = re.findall(r"`(dvc remote add [^`]+)`", page)
    backup, vault, restore, (state, *look, bento) = blocks(page)

    key = live(old)
    before = commands(old, *look)
    commit = old.project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert re.search(r"^version +my_experiment/1 \(champion\)$", before, re.M) and f" {commit} " in before
    model, experiments = (old.project.path / "models/model.onnx").read_bytes(), old.type(EXPERIMENTS).stdout
    assert experiments.endswith("/tried\n")

    server = tmp_path / "server.git"
    branches = with_colleague(old, server)
    backup = cannot_begin(old, backup)
    old.type(remote)
    with runs_are_written(old):
        old.type(*backup)
    old.type(*vault)
    (day,) = disks.glob("backup/????-*")
    stored = cannot_end(old, backup)
    shutil.rmtree(old.home)
    shutil.rmtree(server)

    script = [re.sub(r"/\d{4}-\d\d-\d\d$", f"/{day.name}", line) for line in restore]
    script[script.index("make setup")] = f"ln -s {VENV} .venv"
    refuse(new, script, day / "mlflow.db", "cat: .*mlflow.db: No such file or directory")
    refuse(new, script, day / "git.bundle", "fatal: repository .*git.bundle' does not exist")
    refuse(new, script, stored, r"(?s).*ERROR: failed to pull data from the cloud .*models/model\.onnx\n.*")
    work = new.project.path.parent
    done = new.type(*script, cwd=work)
    assert not done.stderr
    refused = new.type(*script, cwd=work, check=False)
    assert refused.returncode and re.fullmatch("fatal: .* already exists and is not an empty .*\n", refused.stderr)

    assert new.type(state).stdout == "Data and pipelines are up to date.\n"
    assert new.project.git_status() == ""
    assert new.type(EXPERIMENTS).stdout == experiments
    assert new.type(*look).stdout == before.replace(str(old.home), str(new.home))
    assert new.type(bento).stdout == f"Built my_experiment:1-{commit[:12]}\n"
    (packed,) = new.home.glob("bentoml/bentos/my_experiment/*/src/models/model.onnx")
    assert hashlib.sha256(packed.read_bytes()).digest() == hashlib.sha256(model).digest()
    with service(new, SERVICE_KEYS=f"{new.home}/keys.yaml") as client:
        assert [predict(client, each).status_code for each in (key, key[::-1])] == [200, 401]
    check_requests(new.home)
    check_runs(new.project.path)
    fill = [line.replace("ADDRESS", str(server)) for line in re.findall(r"`(git (?:remote|push) [^`]+)`", page)]
    execute("git", "init", "--quiet", "--bare", str(server), cwd=tmp_path)
    new.type(*fill[:-1])
    late = new.type(fill[-1], check=False)
    assert "[new branch]      own -> own" in late.stderr and "[rejected]        main -> main" in late.stderr
    own = f"{commit} commit\trefs/heads/own"
    assert sorted(heads(server)) == sorted([*branches, own])


def heads(folder: Path) -> list[str]:
    return execute("git", "for-each-ref", "refs/heads", cwd=folder).stdout.splitlines()


def with_colleague(machine: Machine, server: Path) -> list[str]:
    """Gives the project a server, to which a colleague has pushed since; returns the branches there."""
    folder = server.with_name("colleague")
    execute("git", "init", "--quiet", "--bare", "--initial-branch=main", str(server), cwd=server.parent)
    machine.type(f"git remote add origin {server}", "git push --quiet --no-verify origin HEAD:main", "git branch own")
    execute("git", "clone", "--quiet", str(server), str(folder), cwd=server.parent)
    for branch in ("main", "side"):
        execute("git", "checkout", "--quiet", "-B", branch, cwd=folder)
        execute("git", "commit", "--quiet", "--allow-empty", f"--message={branch}", cwd=folder)
    execute("git", "push", "--quiet", "--all", cwd=folder)
    shutil.rmtree(folder)
    return heads(server)


def cannot_begin(machine: Machine, backup: list[str]) -> list[str]:
    """Backups that end early say why, and do not look like one; returns the lines without the mount."""
    folder = machine.disks / "backup"
    unmounted = machine.type(*backup, check=False)
    assert unmounted.returncode and unmounted.stdout == f"{folder} is not a mountpoint\n" and not [*folder.iterdir()]
    _, *lines = backup
    database = machine.project.path / "mlflow.db"
    hidden = database.rename(database.with_suffix(".hidden"))
    without = machine.type(*lines, check=False)
    hidden.rename(database)
    assert without.returncode and re.fullmatch("ls: .*mlflow.db.*: No such file or directory\n", without.stderr)
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    (push,) = (line for line in lines if line.startswith("dvc push"))
    unknown = machine.type(push, check=False)
    assert unknown.returncode and "remote 'backup' doesn't exist" in unknown.stderr
    return lines


def cannot_end(machine: Machine, backup: list[str]) -> Path:
    """What a backup says that is the second one of a day, or misses a file; returns that file in the backup."""
    to, _, make, *_, move, look = backup
    again = machine.type(to, make, move, 'rm -r "$to.part"', check=False)
    assert again.returncode == 1 and re.fullmatch("mv: .*: Directory not empty\n", again.stderr)
    machine.type(to, 'rm -r "$to.part"')
    digest = hashlib.md5((machine.project.path / "models/model.onnx").read_bytes(), usedforsecurity=False).hexdigest()
    name = f"files/md5/{digest[:2]}/{digest[2:]}"
    places = [machine.project.path / ".dvc/cache" / name, machine.disks / "backup/dvc" / name]
    hidden = [place.rename(place.with_suffix(".hidden")) for place in places]
    gone = machine.type(look, check=False)
    assert gone.returncode == 1 and re.search(r"^<\s+missing: +models/model\.onnx$", gone.stdout, re.M), gone.stdout
    for there, place in zip(hidden, places, strict=True):
        there.rename(place)
    return places[1]


def commands(machine: Machine, *lines: str, **variables: str) -> str:
    """What commands of the package print; they run in one process, which imports MLflow once."""
    words = [line.partition(MODULE)[2].replace("~", str(machine.home)).split() for line in lines]
    code = f"""
from importlib import import_module
from my_experiment.__main__ import COMMANDS
for name, *arguments in {words}:
    import_module(f"my_experiment.{{COMMANDS[name][0]}}").command(arguments, standalone_mode=False)
"""
    keys = {"SERVICE_KEYS": f"{machine.home}/keys.yaml"}
    return machine.type(shlex.join([sys.executable, "-c", code]), env={**keys, **variables}).stdout


def live(machine: Machine) -> str:
    """Makes the model champion, and asks the service; returns the key of a client."""
    home, project = machine.home, machine.project
    audit, keys = {"SERVICE_AUDIT": f"{home}/audit"}, {"SERVICE_KEYS": f"{home}/keys.yaml"}
    machine.type(blocks(project.read("docs/feedback.md"))[0][0])
    (pair,) = (block[:2] for block in blocks(project.read("docs/release.md")) if block[0].startswith("openssl"))
    machine.type(*pair)
    machine.type("dvc exp save --quiet --name tried")
    signing = {"MODEL_SIGNING_KEY": f"{home}/signing.pem"}
    new_key = f"{MODULE} keys new ward-3 --role predict"
    steps = (new_key, f"{MODULE} registry register", f"{MODULE} registry promote")
    key = commands(machine, *steps, **audit, **keys, **signing).split()[0]
    (public,) = re.findall(r"^# (age1\w+)$", (home / "production.key").read_text(), re.M)
    with service(machine, **audit, **keys, SERVICE_LOG=f"{home}/production", SERVICE_LOG_RECIPIENT=public) as client:
        assert predict(client, key).status_code == 200
    return key


def refuse(machine: Machine, script: list[str], part: Path, line: str) -> None:
    """Restores without a part of the backup: one line says what is missing."""
    hidden = part.rename(part.with_suffix(".hidden"))
    done = machine.type(*script, cwd=machine.project.path.parent, check=False)
    assert done.returncode and re.fullmatch(f"{line}\n", done.stderr), done.stderr
    hidden.rename(part)
    shutil.rmtree(machine.project.path, ignore_errors=True)


def check_requests(home: Path) -> None:
    """The restored key opens the restored requests."""
    (secret,) = re.findall(r"^AGE-SECRET-KEY-\w+$", (home / "production.key").read_text(), re.M)
    (segment,) = (home / "production").rglob("*.jsonl.gz.age")
    lines = gzip.decompress(pyrage.decrypt(segment.read_bytes(), [pyrage.x25519.Identity.from_str(secret)]))
    assert len(json.loads(lines)["answer"]["predictions"]) == len(ROWS)


def check_runs(project: Path) -> None:
    """Each run that was finished when the database was copied has its files; the one that is written does no harm."""
    with contextlib.closing(sqlite3.connect(project / "mlflow.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT status, artifact_uri FROM runs JOIN tags USING (run_uuid) WHERE key = 'written'"
        runs = database.execute(query).fetchall()
    finished = [Path(uri.removeprefix("file://")) for status, uri in runs if status == "FINISHED"]
    assert 3 <= len(finished) < len(runs)
    for folder in finished:
        assert folder.is_relative_to(project)
        assert {file.name: file.stat().st_size for file in folder.iterdir()} == {f"{n}.txt": 100_000 for n in "abc"}
