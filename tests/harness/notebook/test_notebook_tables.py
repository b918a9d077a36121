"""A table in a notebook."""

from pathlib import Path

import pytest
from my_experiment.harness import notebook, prepared
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from tables_made import frame, prepare


def test_examples_are_rows_with_their_names(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = frame()
    prepare(rows, drop=["patient"], group=None)
    (workspace / "notebooks").mkdir()
    monkeypatch.chdir(workspace / "notebooks")
    sizes = {split: len(notebook.examples(split).inputs) for split in prepared.SPLITS}
    assert sum(sizes.values()) == len(rows)
    examples = notebook.examples("test")
    assert list(examples.inputs) == ["size", "weight in kg", "colour ✨"]
    given = rows.set_index("id").loc[examples.inputs.index]
    assert examples.inputs["size"].tolist() == given["size"].tolist()
    assert examples.targets.tolist() == given["y"].tolist()
    assert Path.cwd() == workspace / "notebooks"


def test_other_data_are_refused(workspace: Path) -> None:
    """A trial is fitted on the prepared data, which were made with the values of params.yaml."""
    prepare(frame())
    config.PARAMS.write_text(config.compose(), encoding="utf-8")
    with pytest.raises(UserError, match=r"^prepare: the prepared data were made with other values, which `fit` cannot"):
        notebook.fit("prepare.seed=1")
    with pytest.raises(UserError, match=r"train\.epoch\b"):
        notebook.fit("+train.epoch=1")
