"""Robustness that is not measured costs nothing."""

import json
import subprocess
import sys
from pathlib import Path

from my_experiment.harness.robustness import none
from support import HARNESS


def test_none_writes_an_empty_report(workspace: Path) -> None:
    none.nothing()
    assert json.loads(Path("reports/robustness/values.json").read_text(encoding="utf-8")) == {}
    assert Path("reports/robustness/section.md").read_text(encoding="utf-8") == ""


def test_none_imports_nothing_heavy(workspace: Path) -> None:
    Path("params.yaml").write_text(
        "robustness: {_target_: my_experiment.harness.robustness.none.nothing}\n", encoding="utf-8"
    )
    code = """
import sys
from my_experiment.stages import robustness
robustness.main()
heavy = {"art", "keras", "matplotlib", "mlflow", "numpy", "onnxruntime", "pandas", "scipy", "sklearn", "tensorflow"}
print(sorted(heavy & set(sys.modules)))
"""
    env = {"PYTHONPATH": str(HARNESS.parents[1])}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    assert done.stdout == "[]\n", done.stderr
