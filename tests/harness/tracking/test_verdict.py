"""The verdict about results that were made again, and what of them machine.json keeps."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from locks import LOCK, git, record
from my_experiment.harness.core import files
from my_experiment.harness.tracking import lockfile, machine, outcome, verdict
from my_experiment.harness.tracking.verdict import DIFFERENT, EQUIVALENT, IDENTICAL, Made

MACHINE = {
    "processor": "EPYC",
    "instructions": "AVX AVX2",
    "processors": 2,
    "libraries": {"numpy": "2.4"},
}
OTHER = {**MACHINE, "instructions": "AVX", "processors": 4, "libraries": {"numpy": "2.5"}}
METRICS = {"accuracy": 0.9, "log_loss": 0.3, "baseline": 0.5}
INTERVALS = {"accuracy": [0.8, 0.95], "log_loss": [0.2, 0.4]}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_metrics()


def write_metrics(**values: float) -> None:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/metrics.json").write_text(json.dumps({**METRICS, **values}))
    Path("reports/intervals.json").write_text(json.dumps(INTERVALS))


def predictions(noise: float = 0.0, examples: int = 400, classes: int = 3) -> tuple[Any, Any]:
    """Probabilities whose error is about 0.5, moved by noise, and the classes."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, examples)
    logits = random.normal(0, 1, (examples, classes)) + 2 * np.eye(classes)[labels]
    logits += noise * np.random.default_rng(1).normal(0, 1, logits.shape)
    shares = np.exp(logits)
    return (shares / shares.sum(1, keepdims=True)).astype(np.float32), labels


def results(noise: float = 0.0, **metrics: float) -> dict[str, Any]:
    write_metrics(**metrics)
    return outcome.results(*predictions(noise))


def lock(model: str = "ff", **changes: Any) -> str:
    """A dvc.lock with another model, or other inputs: `code`, `data`, `cmd`, `epochs`, `prepared`."""
    content = deepcopy(LOCK)
    prepare, train = content["stages"]["prepare"], content["stages"]["train"]
    train["outs"][1]["md5"] = model
    prepare["deps"][0]["md5"] = changes.get("data", "aa.dir")
    train["deps"][1]["md5"] = changes.get("code", "dd")
    train["cmd"] = changes.get("cmd", train["cmd"])
    train["params"]["params.yaml"]["train"]["epochs"] = changes.get("epochs", 3)
    prepare["outs"][0]["md5"] = train["deps"][0]["md5"] = changes.get("prepared", "cc.dir")
    return str(yaml.safe_dump(content))


def made(model: str = "ff", on: dict[str, Any] | None = None, of: dict[str, Any] | None = None, **changes: Any) -> Made:
    known = {"model": model, "machine": on, **({"results": of} if of else {})} if on else None
    return Made(lock(model, **changes), known)


def judged(before: Made, after: Made) -> tuple[str, str]:
    return tuple(verdict.judge(before, after))  # type: ignore[return-value]


def test_the_same_bytes_are_identical() -> None:
    assert judged(made(), made()) == (IDENTICAL, "")
    assert str(verdict.judge(made(), made())) == "identical"


def test_another_machine_within_rounding_is_equivalent() -> None:
    name, reason = judged(made("ff", MACHINE, results()), made("00", OTHER, results(1e-3, accuracy=0.91)))
    assert name == EQUIVALENT, reason
    assert reason.startswith(
        "another machine (a processor without AVX2; processors 2 -> 4; numpy 2.4 -> 2.5); the outp"
    )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"code": "0"}, "code (src/x/training.py)"),
        ({"data": "0"}, "data (data/raw)"),
        ({"cmd": "python"}, "commands of dvc.yaml (train)"),
        ({"epochs": 4}, "parameters (train.epochs)"),
        ({"epochs": 4, "code": "0"}, "code (src/x/training.py); parameters (train.epochs)"),
        ({"prepared": "0.dir"}, "data (data/prepared), made from the same inputs"),
    ],
)
def test_the_cause_of_a_difference_is_named(changes: dict[str, Any], cause: str) -> None:
    same = results()
    assert judged(made("ff", MACHINE, same), made("00", OTHER, same, **changes)) == (DIFFERENT, cause)


def test_the_environment_is_the_cause_if_rounding_is_not_enough() -> None:
    before = made("ff", MACHINE, results())
    name, reason = judged(before, made("00", OTHER, results(4.0)))
    assert name == DIFFERENT and "more than" in reason
    assert reason.startswith("models/model.onnx; environment: another machine (a processor")
    worse = results(1e-3)
    worse["metrics"]["accuracy"] = [0.7, 0.6, 0.8]
    name, reason = judged(before, made("00", OTHER, worse))
    assert name == DIFFERENT and "accuracy 0.9 -> 0.7: outside the interval" in reason and "explains" not in reason


def test_a_perfect_metric_has_no_interval() -> None:
    before, after = results(accuracy=0.99), results(accuracy=1.0)
    before["metrics"]["accuracy"], after["metrics"]["accuracy"] = [0.99, 0.97, 1.0], [1.0, 1.0, 1.0]
    assert outcome.outside(before, after) == outcome.outside(after, before) == []
    before["metrics"]["accuracy"] = [0.9, 0.88, 0.92]
    assert outcome.outside(before, after) == ["accuracy 0.9 -> 1"]


def test_nothing_known_is_said() -> None:
    same = results()
    for before, after in ((made(), made("00", OTHER, same)), (made("ff", MACHINE, same), made("00"))):
        assert judged(before, after)[1].startswith(
            "models/model.onnx; nothing is known of the machine: no machine.json"
        )
    name, reason = judged(made("ff", MACHINE, same), made("00", MACHINE, same))
    assert name == DIFFERENT and reason.startswith(
        "models/model.onnx; nothing known differs, and the machine is the same"
    )
    name, reason = judged(made("ff", MACHINE, same), made("00", OTHER))
    assert name == DIFFERENT and reason.endswith("machine.json lacks the results with which to compare")


def test_the_same_model_evaluated_elsewhere_is_equivalent() -> None:
    """ONNX Runtime rounds a metric differently: the record stays that of the machine that trained."""
    before = made("ff", {**MACHINE, "threads": 9}, results())
    after = Made(before.lock.replace("md5: ee", "md5: ef"), before.record)
    name, reason = judged(before, after)
    assert name == EQUIVALENT and "processor EPYC -> " in reason and "threads" not in reason


def test_a_sketch_estimates_the_difference_of_the_outputs() -> None:
    before, labels = predictions()
    first = outcome.results(before, labels)
    assert first["metrics"] == {
        "accuracy": [0.9, 0.8, 0.95],
        "log_loss": [0.3, 0.2, 0.4],
        "baseline": [0.5, None, None],
    }
    for noise in (1e-4, 1e-2, 1.0):
        after, _ = predictions(noise)
        error, apart = (np.sqrt((each**2).sum(1).mean()) for each in (before - np.eye(3)[labels], after - before))
        assert first["error"] == pytest.approx(error, rel=1e-4)
        found = outcome.disagreement(first, outcome.results(after, labels))
        assert found == pytest.approx(apart / error, rel=0.3)  # 9 %, at three standard deviations
    assert outcome.disagreement(first, first) == 0
    assert np.isnan(outcome.disagreement(first, {**first, "sketch": "1 2 3"}))


def test_numbers_and_a_perfect_model_are_compared_too() -> None:
    numbers = 2000 + np.random.default_rng(0).normal(0, 1, 300)
    perfect = outcome.results(numbers[:, None].astype(np.float32), numbers)
    assert perfect["error"] == pytest.approx(0.01, rel=0.1)  # of the spread, which is 1
    moved = outcome.results((numbers[:, None] + 0.001).astype(np.float32), numbers)
    assert outcome.disagreement(perfect, moved) == pytest.approx(0.1, rel=0.4)


def test_results_are_recorded_once_for_a_model() -> None:
    model = Path("model.onnx")
    model.write_text("model")
    outcome.record(model, *predictions())
    assert machine.read() is None  # nobody has recorded a training
    machine.write({"model": "0" * 32, "machine": MACHINE})
    outcome.record(model, *predictions())
    assert "results" not in (machine.read() or {})  # of another model
    machine.write({"model": files.digest(model, "md5"), "machine": MACHINE})
    outcome.record(model, *predictions())
    text = machine.FILE.read_text()
    write_metrics(accuracy=0.9000001)
    outcome.record(model, *predictions(1e-7))  # another processor evaluates the same model
    assert machine.FILE.read_text() == text and len(text) < 3000
    write_metrics(accuracy=0.9, recall=0.5)  # a metric more
    outcome.record(model, *predictions())
    assert "recall" in machine.FILE.read_text()


def test_a_training_says_that_it_made_other_results(capsys: pytest.CaptureFixture[str]) -> None:
    def tell() -> str:
        verdict.tell()
        return capsys.readouterr().err

    git("init", "--quiet")
    record(3)
    assert tell() == ""  # no commit
    old = lockfile.training(lockfile.read_lock()).model
    machine.write({"model": old, "machine": MACHINE, "results": results()})
    git("add", "dvc.lock", "machine.json")
    git("commit", "--quiet", "--message", "Three")
    assert tell() == ""  # the same
    text = lockfile.LOCK.read_text()
    lockfile.LOCK.write_text(text.replace(old, "f0f0"))
    assert "NOT those of the commit: nothing is known" in tell()
    machine.write({"model": "f0f0", "machine": OTHER, "results": results(1e-3)})
    first, second = tell().splitlines()
    assert "equivalent to the commit: another machine (a processor without AVX2; " in first
    assert "git checkout HEAD dvc.lock machine.json && dvc checkout" in second
    assert second.endswith("to keep these: commit dvc.lock and machine.json")
    lockfile.LOCK.write_text(text.replace(old, "f0f0").replace("epochs: 3", "epochs: 4"))
    assert tell() == ""  # another training
    lockfile.LOCK.write_text("stages: {}")
    assert tell() == ""
