"""A project with a table of its own, whose service can be asked for new rows of the same kind, and for others."""

from typing import Any

import numpy as np
from conftest import BakedProject, edit, quiet

ENV = {"PYTHONPATH": "src"}
ROWS = 1000  # so many that the test split has confidence and outcomes in bins


def rows(count: int, seed: int, shift: float = 0.0) -> list[dict[str, Any]]:
    """Rows of a table with two classes that a line divides."""
    random = np.random.default_rng(seed)
    x, z = random.normal(shift, 1, count).round(6), random.normal(0, 1, count).round(6)
    town = random.choice(["Ulm", "Bad Ems"], count)
    label = np.where(x + z + 0.2 * random.normal(size=count) > 0, "high", "low")
    return [
        {"x": float(a), "z": float(b), "town": str(c), "level": str(d)}
        for a, b, c, d in zip(x, z, town, label, strict=True)
    ]


def prepare(project: BakedProject) -> None:
    """Gives a project for tables the table in a folder, trains and commits."""
    folder = project.path / "data/raw/table"
    folder.mkdir()
    lines = [",".join(map(str, row.values())) for row in rows(ROWS, 0)]
    (folder / "rows.csv").write_text("\n".join(["x,z,town,level", *lines, ""]))
    edit(project, "conf/config.yaml", "- data: breast_cancer", "- data: csv")
    edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
    edit(project, "conf/config.yaml", "- experiment: null", "- experiment: logistic_regression")
    edit(project, "conf/data/csv.yaml", "path: data/raw/table.csv", "path: data/raw/table")
    edit(project, "conf/data/csv.yaml", "target: ???", "target: level")
    edit(project, "conf/gates/default.yaml", "calibration: 0.1", "calibration: null")  # of two hundred test rows
    project.run("dvc", "add", "--quiet", "data/raw/table")
    project.run("python", "-m", "my_experiment", "schema", env=ENV)
    edit(project, "schema/table.yaml", "  town:\n", "  town:\n    private: drop\n    nulls: 0.9\n")
    quiet(project.run("dvc", "repro"))
    project.commit("Our own table")
