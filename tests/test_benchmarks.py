"""The benchmarks, each run once and as small as can be: they end, and say the figures that they are for.

`benchmarks/boosting.py` is in test_tabular.py. No figure is held to a goal here: that is `make bench`, on a quiet
machine.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, BakedProject, execute

pytestmark = pytest.mark.pipeline


def run(folder: Path, name: str, *arguments: str | Path) -> list[str]:
    """Runs a benchmark in an empty folder; gives the lines that it prints."""
    done = execute(sys.executable, ROOT / "benchmarks" / name, *arguments, cwd=folder)
    return done.stdout.splitlines()


def test_training_against_a_fit_by_hand(reproduced_project: BakedProject, tmp_path: Path) -> None:
    lines = run(tmp_path, "fit.py", reproduced_project.path, "on", "package,hand", "digits=1")
    speeds: dict[str, dict[str, list[float]]] = json.loads(lines[-1])
    assert speeds.keys() == {"digits"} and speeds["digits"].keys() == {"package", "hand"}
    assert all(len(values) == 1 and values[0] > 0 for values in speeds["digits"].values())


def test_one_plain_script(reproduced_project: BakedProject, tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads(run(tmp_path, "plain.py", reproduced_project.path, tmp_path / "out", "2")[-1])
    assert 0.1 < told["accuracy"] < 1
    assert len(told["seconds"]) > 3 and all(spent > 0 for spent in told["seconds"].values())


def test_features_computed_once(reproduced_project: BakedProject, tmp_path: Path) -> None:
    size = ("--epochs", "1", "--images", "8", "--side", "32")
    told: dict[str, float] = json.loads(run(tmp_path, "transfer.py", reproduced_project.path, *size)[-1])
    assert told["ratio"] == pytest.approx(told["naive_s"] / told["cached_s"], abs=0.01)


def test_a_table_against_pandas_and_keras_by_hand(tmp_path: Path) -> None:
    lines = run(tmp_path, "tables.py", "2000")
    rows = {
        name: tuple(map(float, values))
        for name, *values in (
            re.split(r"  +", line)[:3] for line in lines if re.match(r"(prepare|train|by hand) ", line)
        )
    }
    assert rows.keys() == {"prepare", "train", "by hand"} and all(value > 0 for row in rows.values() for value in row)
    (ratio,) = (float(line.split()[1]) for line in lines if line.startswith("time: "))
    assert ratio == pytest.approx((rows["prepare"][0] + rows["train"][0]) / rows["by hand"][0], rel=0.02)
