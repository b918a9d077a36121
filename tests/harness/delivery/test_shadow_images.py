"""A new release answers what was kept: a real service behind a real SSH server, while its rollout waits."""

import contextlib
import gzip
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from graphs_made import save_linear_classifier
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import abort, comparison, deploy, hosts, shadow
from my_experiment.harness.delivery.comparison import Pair
from my_experiment.harness.release import versions
from programs import free_port
from support import ROOT
from test_compare_images import DESCRIPTION, PICTURES, keep
from test_verbs import Project, project, stack, wait  # noqa: F401  fixtures

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to let another process log in")
STABLE = {**DESCRIPTION, "sha256": "a" * 64}  # the model of the requests that `keep` writes
# In place of podman, which tests of hosts have: it runs the service of a folder as the container's entry point would.
PODMAN = """#!{python}
import os, signal, sys
from pathlib import Path
pid = Path({folder!r}, "pid")
words = sys.argv[1:]
if words[0] == "stop":
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        pid.unlink()
    sys.exit()
assert words[:2] == ["run", "--rm"] and "--pull=never" in words
os.environ.update(word.split("=", 1) for before, word in zip(words, words[1:]) if before == "--env")
os.environ.update(PYTHONPATH={folder!r} + "/src", BENTOML_DO_NOT_TRACK="true")
pid.write_text(str(os.getpid()))
os.chdir({folder!r})
image = next(index for index, word in enumerate(words) if "@sha256:" in word)
os.execv(sys.executable, [sys.executable, "-m", "my_experiment", "serve", *words[image + 1 :]])
"""


@pytest.fixture
def candidate(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    """The folder of a service whose release is on its way and has no traffic yet; it calls pixels light from 170 on."""
    folder = tmp_path / "service"
    shutil.copytree(ROOT / "src", folder / "src")
    shutil.copy(ROOT / "bentofile.yaml", folder)
    with contextlib.chdir(folder):
        sha256 = save_linear_classifier(np.array([[0.0, 0.1]]), [0.0, -17.0], (1, 1, 1))
        Path("models/model.json").write_text(json.dumps({**DESCRIPTION, "sha256": sha256}))
    podman = project.root / "podman"
    podman.write_text(PODMAN.format(python=sys.executable, folder=str(folder)))
    podman.chmod(0o755)
    monkeypatch.setattr(shadow, "PORT", free_port())  # the one of hosts, several tests run at once
    project.servers.ready[3201] = project.release("1")
    deploy.deploy()
    project.registry.set_model_version_tag(versions.MODEL, "2", "model_sha256", sha256)
    project.release("2", sha256=sha256)

    def run() -> None:
        with contextlib.suppress(UserError):  # aborted
            deploy.deploy()

    thread = threading.Thread(target=run)
    thread.start()
    wait(lambda: bool(hosts.state(hosts.read().balancer)["candidate"]))
    yield folder
    abort.abort()
    thread.join(20)


def expect(monkeypatch: pytest.MonkeyPatch, disagreements: int) -> None:
    """Two models that disagree on so many of ten examples of the test split, which is compared elsewhere."""
    first = np.tile(np.array([0.9, 0.1], np.float32), (10, 1))
    second = first.copy()
    second[:disagreements] = [0.2, 0.8]
    pair = Pair(("my_experiment/1", "my_experiment/2"), (STABLE, DESCRIPTION), (first, second), "examples")
    monkeypatch.setattr(comparison, "pair", lambda *names: pair)


def keep_answers(folder: Path, threshold: float, times: int) -> None:
    """Keeps requests that a model has answered which calls pixels light from a threshold on."""
    keep(folder)
    segment = folder / "1.jsonl.gz"
    lines = [json.loads(line) for line in gzip.decompress(segment.read_bytes()).splitlines()]
    for line, part in zip(lines, (PICTURES[:3], PICTURES[3:]), strict=True):
        light = 1 / (1 + np.exp(-0.1 * (part.ravel() - threshold)))
        line["answer"]["predictions"] = [
            {"label": "light" if each > 0.5 else "dark", "probabilities": {"dark": 1 - each, "light": each}}
            for each in light.tolist()
        ]
    segment.write_bytes(gzip.compress("\n".join(json.dumps(line) for line in lines * times).encode()))


def asked(folder: str, *options: str) -> tuple[int, str]:
    """Exit status and output of the command."""
    done = CliRunner().invoke(shadow.command, ["--requests", folder, *options])
    if isinstance(done.exception, UserError):
        return 1, f"{done.output}error: {done.exception}"
    assert done.exception is None, done.exception
    return done.exit_code, done.output


def test_answers_are_compared_with_the_recorded_ones(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of pixels 0, 50, 100, 150, 200, 250, both call two light; or the model before called five light.
    keep_answers(Path("same"), 160, 1)
    keep_answers(Path("other"), 30, 10)
    expect(monkeypatch, 0)
    code, told = asked("same")
    assert code == 0, told
    assert "my_experiment/1 and my_experiment/2 disagree on 0 of 6 (0.0%, 95% interval 0.0% to 45.9%)" in told
    assert "rows of 2 kept requests; on the test split, on 0.0%\nan answer took" in told
    assert not (candidate / "pid").exists()
    code, told = asked("other", "--last", "20")
    assert code == 1
    assert told.splitlines()[-1].startswith(
        "error: my_experiment/1 and my_experiment/2 disagree on 36.8% of the rows at least, more than the 0.0% of"
    )
    replay = shadow.Replay([shadow.Change("a", 0, "dark", "light", True, 0.9)] * 30, [0.1] * 30, [])
    assert shadow._told(replay, ("a", "b"), 0.8, 30)[1].startswith("a and b disagree on 88.4% of the rows at least")
    assert shadow._told(replay, ("a", "b"), 0.84, 30)[1] == ""


def test_a_release_that_refuses_requests_or_does_not_start_is_one_line(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_answers(Path("same"), 160, 1)
    expect(monkeypatch, 0)
    path = candidate / "models/model.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "shape": [2, 2, 1]}))
    code, told = asked("same")
    assert code == 1
    assert "my_experiment/2 has not answered 2 of 2 requests that my_experiment/1 had answered; " in told
    path.write_text(json.dumps({**content, "sha256": "b" * 64}))
    code, told = asked("same")
    assert code == 1
    assert "error: a does not run 222222222222 beside its slot: " in told
    assert len(told.splitlines()) == 1


def test_nothing_on_its_way_and_requests_of_others_are_one_line(
    project: Project,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project.release("1")
    with pytest.raises(UserError, match="111111111111 is in no slot yet, or serves already: "):
        shadow.shadow(Path("kept"), 10)
    keep(Path("kept"))
    with pytest.raises(UserError, match="kept has no requests that the model bbbbbbbbbbbb has answered"):
        shadow.kept(Path("kept"), "b" * 12, 10)
    assert [each.id for each in shadow.kept(Path("kept"), "a" * 12, 1)] == ["1"]
