"""The benchmarks, each run once and as small as can be: they end, and say the figures that they are for.

`benchmarks/boosting.py` is in test_tabular.py. No figure is held to a goal here: that is `make bench`, on a quiet
machine.
"""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TEMPLATE, BakedProject, Copy, execute
from debian import apt_install

pytestmark = pytest.mark.pipeline


def run(folder: Path, name: str, *arguments: str | Path) -> list[str]:
    """Runs a benchmark in an empty folder; gives the lines that it prints."""
    done = execute(sys.executable, ROOT / "benchmarks" / name, *arguments, cwd=folder)
    return done.stdout.splitlines()


def figures(folder: Path, name: str, *arguments: str | Path) -> dict[str, Any]:
    """The figures that a benchmark prints last."""
    found: dict[str, Any] = json.loads(run(folder, name, *arguments)[-1])
    return found


def test_training_against_a_fit_by_hand(reproduced_project: BakedProject, tmp_path: Path) -> None:
    lines = run(tmp_path, "fit.py", reproduced_project.path, "on", "package,hand", "digits=1")
    speeds: dict[str, dict[str, list[float]]] = json.loads(lines[-1])
    assert speeds.keys() == {"digits"} and speeds["digits"].keys() == {"package", "hand"}
    assert all(len(values) == 1 and values[0] > 0 for values in speeds["digits"].values())


def test_the_checks_of_a_gpu_as_far_as_a_processor_goes(reproduced_project: BakedProject, tmp_path: Path) -> None:
    lines = run(tmp_path, "gpu.py", reproduced_project.path, "--tiny")
    outcomes = {name: each["outcome"] for name, each in json.loads(lines[-1]).items()}
    possible = {"repeated", "mirrored", "precision", "xla", "throughput"}
    assert {name for name, outcome in outcomes.items() if outcome == "ok"} == possible
    rest = {name for name, outcome in outcomes.items() if outcome == "not possible here"}
    assert rest == outcomes.keys() - possible == {"libraries", "used", "memory", "verdict"}
    assert lines[1] == "used        not possible here: there is no GPU"


def test_malformed_input_is_refused(quick_project: BakedProject, table_project: BakedProject, tmp_path: Path) -> None:
    """As `make fuzz` does, with few cases: no error but a refusal in one line, soon, in little memory."""
    found = figures(tmp_path, "fuzz.py", quick_project.path, "--cases", "0.4")
    assert {"json", "feedback", "form", "audit", "model.json", "model.onnx", "pictures", "arrays"} < found.keys()
    found |= figures(tmp_path, "fuzz.py", table_project.path, "--cases", "0.4")
    assert {"tables", "keys", "segments"} < found.keys()
    assert all(each["refused"] < each["cases"] > 50 for each in found.values())


def test_one_plain_script(reproduced_project: BakedProject, tmp_path: Path) -> None:
    told = figures(tmp_path, "plain.py", reproduced_project.path, tmp_path / "out", "2")
    assert 0.1 < told["accuracy"] < 1
    assert len(told["seconds"]) > 3 and all(spent > 0 for spent in told["seconds"].values())


def test_features_computed_once(reproduced_project: BakedProject, tmp_path: Path) -> None:
    size = ("--epochs", "1", "--images", "8", "--side", "32")
    told = figures(tmp_path, "transfer.py", reproduced_project.path, *size)
    assert told["ratio"] == pytest.approx(told["naive_s"] / told["cached_s"], abs=0.01)


def test_a_table_against_pandas_and_keras_by_hand(tmp_path: Path) -> None:
    lines = run(tmp_path, "tables.py", "2000", "1")
    rows = {
        name: tuple(map(float, values))
        for name, *values in (
            re.split(r"  +", line)[:3] for line in lines if re.match(r"(prepare|train|by hand) ", line)
        )
    }
    assert rows.keys() == {"prepare", "train", "by hand"} and all(value > 0 for row in rows.values() for value in row)
    (ratio,) = (float(line.split()[1]) for line in lines if line.startswith("time: "))
    assert ratio == pytest.approx((rows["prepare"][0] + rows["train"][0]) / rows["by hand"][0], rel=0.02)


def test_the_pipeline_against_the_script(quick_project: BakedProject, tmp_path: Path) -> None:
    """One turn of the cold run, of which the others are parts."""
    found = figures(tmp_path, "pipeline.py", "--project", quick_project.path, "--repeats", "1", "cold", "explain")
    names = {"cold, time", "cold, CPU", "explain, seconds", "explain, CPU seconds"}
    assert found.keys() == names and all(ratio > 0 for ratio in found.values())


def test_the_service_in_one_process(reproduced_project: BakedProject, tmp_path: Path) -> None:
    """The others take half a minute to start."""
    size = ("--sides", "0", "--rounds", "1", "--seconds", "0.2")
    found = figures(tmp_path, "service.py", reproduced_project.path, *size)
    assert found.keys() == {"one process", "binary batches"}
    loads = {f"{clients}: {what}" for clients in (1, 16, 64) for what in ("CPU a request, ms", "requests/s", "p50, ms")}
    assert found["one process"].keys() >= {*loads, "cold start, s", "PSS, MB"}
    assert found["binary batches"].keys() == {"1 client", "2 clients"}


def test_counting_in_the_service(reproduced_project: BakedProject, tmp_path: Path) -> None:
    found = figures(tmp_path, "counting.py", reproduced_project.path, "--rounds", "1", "--seconds", "0.5")
    assert found["series"] > 60 and found["bytes of /metrics"] > 10_000
    assert found["CPU, counting / plain"] > 0 and found["p99, scraped / not"] > 0


def test_guarding_the_service(reproduced_project: BakedProject, copy: Copy, tmp_path: Path) -> None:
    project = copy(reproduced_project)
    room = "harness/protection"  # of a larger scope, which has no reproduced project here
    shutil.copytree(TEMPLATE / "src/{{cookiecutter.package}}" / room, project.path / "src/my_experiment" / room)
    found = figures(tmp_path, "guarding.py", project.path, "--rounds", "1", "--seconds", "0.5")
    assert found["CPU, keys / open"] > 0 and found["CPU, limits / open"] > 0


def test_haproxy_in_front_of_the_service(reproduced_project: BakedProject, tmp_path: Path) -> None:
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        apt_install("haproxy")
    told = figures(tmp_path, "proxy.py", reproduced_project.path, "--rounds", "1", "--seconds", "0.3")
    direct, through = (told[f"1 clients: p50 {way}, ms"] for way in ("direct", "proxy"))
    assert told["1 clients: p50, proxy / direct"] == pytest.approx(through / direct) and through > 0


def test_alarms_of_drift(reproduced_project: BakedProject, tmp_path: Path) -> None:
    """These figures do not depend on the machine, so that goals hold here too."""
    found = figures(tmp_path, "drift.py", reproduced_project.path, "--rows", "60000", "--repeats", "2")
    assert found["clean"]["rows"] == 60_000 and found["clean"]["ours"] == 0 < found["clean"]["PSI > 0.2"]
    shifts = {name: each for name, each in found["delays"].items() if name.endswith("1.0 sd")}
    assert len(shifts) == 3 and all(each["never"] == each["wrong"] == 0 for each in shifts.values())
    assert all(each["longest"] <= 500 for name, each in shifts.items() if not name.startswith("reference 400,"))
    for name, days in found["dependent"].items():
        wanted = 2 if "all rows drift all day" in name else 0
        if "slightly" not in name:
            assert days["1d beyond its loudest hour"] == wanted, name


def test_gates_of_rollouts(bake: Callable[..., BakedProject], tmp_path: Path) -> None:
    """Nor do these; false aborts and power of 10,000 rollouts are in decision 52."""
    project = bake(scope="production", deploy="ansible").path
    found = figures(tmp_path, "judging.py", project, "--rollouts", "300")
    for gate in ("errors", "slow"):
        assert found[f"{gate}: tolerable"]["bad, %"] <= 1.2
        assert found[f"{gate}: intolerable"]["bad, %"] >= 98
        assert found[f"{gate}: always"]["bad after"] == 10
    assert found["shift, 10 classes: same"]["bad, %"] <= 1.2
    assert found["shift, 10 classes: one answer alone"]["bad after"] <= 20


def test_a_sweep_against_the_basic_launcher(
    quick_project: BakedProject, copy: Callable[[BakedProject], BakedProject], tmp_path: Path
) -> None:
    size = ("--trials", "3", "--project", copy(quick_project).path, "launchers")
    found = figures(tmp_path, "sweep.py", *size)
    assert found.keys() == {"of basic launcher", "beyond fit, s"} and all(value > 0 for value in found.values())
