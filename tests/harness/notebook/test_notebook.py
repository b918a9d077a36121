"""The project in a notebook: what is refused; test_notebook_images.py and test_notebook_tables.py read examples."""

from pathlib import Path

import pytest
from my_experiment.harness import notebook
from my_experiment.harness.core.errors import UserError


def test_before_the_pipeline_has_run_it_says_so(workspace: Path) -> None:
    for call in (notebook.examples, notebook.answers, notebook.metrics, notebook.history, notebook.fit):
        with pytest.raises(UserError, match=r"run `dvc repro` or `dvc pull`$"):
            call()
    with pytest.raises(UserError, match=r"has no dvc\.lock: run `dvc repro`$"):
        notebook.run()


def test_outside_of_a_project_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is not in a project: "):
        notebook.metrics()


def test_a_misspelled_split_is_refused(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no split 'valid': choose train, validation, test$"):
        notebook.examples("valid")
