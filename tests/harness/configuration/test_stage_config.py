"""Stage `config`: conf/ owns every parameter, and no edit is lost."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.stages import config as stage
from support import PACKAGE, ROOT

CONF, PARAMS = Path("conf/config.yaml"), Path("params.yaml")


@pytest.fixture
def reproduced(workspace: Path) -> Path:
    """After `dvc repro`: params.yaml is there, and dvc.lock records it as DVC does."""
    stage.main()
    md5 = hashlib.md5(PARAMS.read_bytes(), usedforsecurity=False).hexdigest()
    lock = {"schema": "2.0", "stages": {"config": {"outs": [{"path": "params.yaml", "hash": "md5", "md5": md5}]}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")
    return workspace


def edit(path: Path, change: Callable[[dict[str, int]], None]) -> bytes:
    """Changes the section `prepare` of a YAML file, as somebody with an editor would."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(content["prepare"])
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path.read_bytes()


def test_composed_anew_it_stays_the_same(reproduced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = PARAMS.read_bytes()
    stage.main()
    assert PARAMS.read_bytes() == before
    assert capsys.readouterr() == ("", "")


def test_an_edit_of_conf_is_composed_and_told(reproduced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(CONF, lambda prepare: prepare.update(seed=4321))
    stage.main()
    assert yaml.safe_load(PARAMS.read_text(encoding="utf-8"))["prepare"]["seed"] == 4321
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("config: prepare.seed: ") and line.endswith(" -> 4321")


@pytest.mark.parametrize("edited", [[PARAMS], [PARAMS, CONF]])
@pytest.mark.parametrize("locked", [True, False])
def test_a_hand_edit_is_refused_and_kept(reproduced: Path, edited: list[Path], locked: bool) -> None:
    if not locked:
        Path("dvc.lock").unlink()
    content = edit(PARAMS, lambda prepare: prepare.update(seed=1234))
    if CONF in edited:
        edit(CONF, lambda prepare: prepare.update(seed=4321))
    with pytest.raises(UserError) as error:
        stage.main()
    assert PARAMS.read_bytes() == content
    for text in ("params.yaml was changed by hand", "prepare.seed: 1234 -> ", "Edit conf/", "dvc exp run -S"):
        assert text in str(error.value)


def test_the_same_edit_in_both_places_is_no_conflict(reproduced: Path) -> None:
    edit(CONF, lambda prepare: prepare.update(seed=4321))
    PARAMS.write_text(config.compose(), encoding="utf-8")
    stage.main()


def test_a_bad_conf_leaves_the_last_good_file(reproduced: Path) -> None:
    before = PARAMS.read_bytes()
    edit(CONF, lambda prepare: prepare.update(sede=1))
    with pytest.raises(UserError, match=r"prepare\.sede: unknown key; did you mean 'seed'\?"):
        stage.main()
    assert PARAMS.read_bytes() == before


def test_an_experiment_keeps_what_dvc_has_composed(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-nail")
    content = edit(PARAMS, lambda prepare: prepare.update(seed=1234))
    stage.main()
    assert PARAMS.read_bytes() == content


def test_an_experiment_is_checked(reproduced: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-nail")
    edit(PARAMS, lambda prepare: prepare.update(sede=1))
    with pytest.raises(UserError, match=r"prepare\.sede: unknown key"):
        stage.main()


def test_a_mistake_ends_the_command_without_a_traceback(workspace: Path) -> None:
    edit(CONF, lambda prepare: prepare.update(sede=1))
    command = [sys.executable, "-m", f"{PACKAGE}.stages.config"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: the configuration in conf/ is not valid:\n  prepare.sede: unknown key")
    assert "Traceback" not in done.stderr
    assert not PARAMS.exists()
