"""Checks of CI on a small pipeline, with the real git and DVC."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from my_experiment.harness.automation import ci, differences
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.tracking import proposal
from support import PACKAGE, ROOT

PIPELINE = """
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    params: [rate]
    outs: [models/model.onnx, reports/curve.csv]
    metrics: [reports/metrics.json]
plots:
  - reports/curve.csv: {x: step, y: loss}
"""
TRAIN = """
import hashlib, json, os, pathlib, yaml
rate = yaml.safe_load(open("params.yaml"))["rate"]
rounding = os.environ.get("ROUNDING", "0")
for folder in ("models", "reports"):
    pathlib.Path(folder).mkdir(exist_ok=True)
model = f"{rate} {rounding}".encode()
pathlib.Path("models/model.onnx").write_bytes(model)
pathlib.Path("reports/metrics.json").write_text(json.dumps({"accuracy": 1 - rate}))
pathlib.Path("reports/curve.csv").write_text(f"step,loss\\n0,1\\n1,{rate}\\n")
record = pathlib.Path("machine.json")
md5 = hashlib.md5(model).hexdigest()
if not record.exists() or json.loads(record.read_text())["model"] != md5:
    machine = {"processor": os.environ.get("PROCESSOR", "EPYC")}
    results = {"metrics": {"accuracy": [1 - rate, 0.5, 1]}, "sketch": rounding, "error": 1}
    record.write_text(json.dumps({"model": md5, "machine": machine, "results": results}))
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def git(*arguments: str) -> str:
    return run("git", "-c", "user.name=A", "-c", "user.email=a@b.c", *arguments)


def dvc(*arguments: str) -> str:
    return run(sys.executable, "-m", "dvc", *arguments)


def commit(message: str) -> str:
    git("add", "--all")
    git("commit", "--quiet", "--message", message)
    return git("rev-parse", "--short", "HEAD")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A reproduced and committed pipeline. Do not change it."""
    folder = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        patch.chdir(folder)
        make()
        yield folder


@pytest.fixture
def pipeline(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it is the working directory."""
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")


def make() -> None:
    """Makes the pipeline here."""
    git("init", "--quiet", "--initial-branch", "main")
    dvc("init", "--quiet")
    dvc("remote", "add", "--quiet", "--default", "storage", "../remote")  # with nothing in it
    Path("dvc.yaml").write_text(PIPELINE)
    Path("train.py").write_text(TRAIN)
    Path("params.yaml").write_text("rate: 0.1\n")
    Path(".gitignore").write_text("/build/\n/models/\n/reports/\n")
    Path("conf").mkdir()
    shutil.copy(ROOT / "conf/ci.yaml", "conf")
    commit("Code")
    dvc("repro", "--quiet")
    commit("Results")


@pytest.mark.usefixtures("pipeline")
def test_a_commit_is_reproduced_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert ci.reproduced() == f"identical: dvc.lock matches {git('rev-parse', '--short', 'HEAD')}"
    assert "Running stage" not in capfd.readouterr().out
    # Nothing is stored anywhere: it is computed, and gives the same.
    run("rm", "-r", ".dvc/cache", "reports")
    ci.reproduced()
    output = capfd.readouterr().out
    assert "3 files are neither cached nor on the remote" in output and "Running stage 'train'" in output
    # Other inputs: it is certain that dvc.lock would change, so that nothing is run.
    Path("params.yaml").write_text("rate: 0.2\n")
    commit("Not reproduced")
    with pytest.raises(UserError, match=r"different: train would run \(rate changed\); run `dvc repro`, commit"):
        ci.reproduced()
    assert "Running stage" not in capfd.readouterr().out
    git("rm", "--quiet", "dvc.lock")
    commit("No results")
    with pytest.raises(UserError, match="HEAD has no dvc"):
        ci.reproduced()


@pytest.mark.usefixtures("pipeline")
def test_other_results_of_the_same_commit_are_equivalent_or_different(monkeypatch: pytest.MonkeyPatch) -> None:
    head = git("rev-parse", "--short", "HEAD")

    def elsewhere(**variables: str) -> str:
        """The verdict on a machine that has neither cache nor remote."""
        run("rm", "-rf", ".dvc/cache", "models", "reports")
        git("checkout", "--quiet", "dvc.lock", "machine.json")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return ci.reproduced()

    found = elsewhere(ROUNDING="0.001", PROCESSOR="Xeon")
    assert found.startswith("equivalent: another machine (processor EPYC -> Xeon); the outputs differ by 0.001 of the")
    assert found.endswith(f"; {head} passes")
    assert git("status", "--porcelain").split() == ["M", "dvc.lock", "M", "machine.json"]
    with pytest.raises(
        UserError, match=rf"match {head}: different: .*; environment: .* more than rounding .*; `dvc push`"
    ):
        elsewhere(ROUNDING="2")
    with pytest.raises(UserError, match=r"different: .*; nothing known differs, and the machine is the same"):
        elsewhere(ROUNDING="0.001", PROCESSOR="EPYC")
    settings = Path("conf/ci.yaml")
    settings.write_text(settings.read_text().replace("checks: true", "checks: false"))
    with pytest.raises(UserError, match=r"equivalent: another machine .*; `dvc push` where the results were made"):
        elsewhere(PROCESSOR="Xeon")
    settings.write_text("equivalent: {checks: perhaps}")
    with pytest.raises(UserError, match=r"conf/ci.yaml is not valid:\n  equivalent.checks: .* got 'perhaps'"):
        elsewhere()


@pytest.mark.usefixtures("pipeline")
def test_the_report_says_what_changed() -> None:
    assert "Nothing has changed" in ci.compare("HEAD")
    assert not differences.PLOTS.exists()
    first = git("rev-parse", "HEAD")
    Path("params.yaml").write_text("rate: 0.25\n")
    dvc("repro", "--quiet")
    text = ci.compare(first)
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["accuracy", "0.9", "0.75", "-0.15"] in table and ["rate", "0.1", "0.25"] in table
    assert first not in text and f"`{first[:7]}`" in text
    assert "New content: `models/model.onnx`, `reports/curve.csv`, `reports/metrics.json`." in text
    assert (differences.PLOTS / "index.html").is_file()
    assert "There are no results at `HEAD~1`: all results are new." in ci.compare("HEAD~1")


@pytest.mark.usefixtures("pipeline")
def test_the_report_wants_a_commit_and_results() -> None:
    with pytest.raises(UserError, match="BASE=nowhere: git knows no such commit here"):
        ci.compare("nowhere")
    git("switch", "--quiet", "--detach", "HEAD~1")
    assert "Nothing to compare with: this is the first commit." in ci.compare("HEAD~1")
    Path(".git/shallow").write_text(git("rev-parse", "main") + "\n")  # as `git clone --depth 1`
    git("switch", "--quiet", "main")
    with pytest.raises(UserError, match="BASE=HEAD~1: git knows no such commit here"):
        ci.compare("HEAD~1")
    run("rm", "-r", ".dvc/cache", "reports")
    with pytest.raises(UserError, match=r"no reports/metrics\.json: run `dvc repro`"):
        ci.compare("HEAD")


@pytest.mark.usefixtures("pipeline")
def test_the_command_tells_errors_in_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", PACKAGE, "ci", "report", "nowhere"], capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: BASE=nowhere")


@pytest.mark.usefixtures("pipeline")
def test_the_command_writes_the_report_and_shows_it() -> None:
    done = CliRunner().invoke(ci.command, ["report", "HEAD"], catch_exceptions=False)
    assert "Nothing has changed" in done.output
    assert proposal.REPORT.read_text() == done.output.removesuffix("\n")
