"""Check 29: a person is erased from real segments, tables, git and DVC, and what still holds it is listed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from my_experiment.harness.audit import chain
from my_experiment.harness.capture.contracts import Privacy
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.core.programs import DVC, run
from my_experiment.harness.feedback.collect import SEGMENTS, collect
from my_experiment.harness.feedback.erase import command
from my_experiment.harness.feedback.reading import open_segments
from my_experiment.harness.release import versions
from my_experiment.harness.tracking import store
from production import Service
from support import commit, git
from test_collect_tables_classification import DESCRIPTION, IDENTITY, ROW, TABLE, made, repository, table

__all__ = ["made", "repository"]  # fixtures
KEY = "k" * 32


@pytest.fixture
def home(repository: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The repository with an empty registry, no Bentos and an audit log."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("SERVICE_AUDIT", str(tmp_path / "audit"))
    return tmp_path


def serve(**settings: Any) -> list[str]:
    """Segments with five requests of two rows each, the second with feedback; returns their ids."""
    service, ids = Service(SEGMENTS, DESCRIPTION, recipient=IDENTITY.to_public(), **settings), []
    for number in range(5):
        rows = [ROW | {"size": round(0.001 * number, 3)}, ROW | {"size": round(0.5 + 0.001 * number, 3)}]
        feeds = {"size": np.zeros(2), "weight in kg": np.zeros(2), "colour ✨": np.array(["grün"] * 2, np.object_)}
        ids.append(service.answer(feeds, [[0.25, 0.75]] * 2, rows))
        service.label(ids[-1], "yes", "a", 1)
    service.close()
    return ids


def register(name: str) -> None:
    """Registers a version that was trained on the data of HEAD."""
    registry = store.client()
    if not versions.aliases(registry):
        registry.create_registered_model(versions.MODEL)
    tags = {"git_commit": git("rev-parse", "HEAD").strip()}
    registry.create_model_version(versions.MODEL, f"file:///{name}", tags=tags)
    registry.set_registered_model_alias(versions.MODEL, name, versions.search(registry)[0].version)


def erase(*arguments: str) -> str:
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def holders(text: str) -> set[str]:
    """Every file of the workspace with a text, also in segments; what git and DVC keep of the past is not looked at."""
    files = (file for file in Path().rglob("*") if file.is_file() and not {".git", "cache"} & {*file.parts})
    found = {f.as_posix() for f in files if any(text.encode(e) in f.read_bytes() for e in ("utf-8", "utf-16-le"))}
    return found | {"segments" for line in open_segments(SEGMENTS).lines() if text in json.dumps(line)}


def test_an_answer_leaves_all_files_and_what_holds_it_is_listed(home: Path) -> None:
    register("before")
    ids = serve()
    collect()
    commit()
    register("with")
    first = git("rev-parse", "--short=12", "HEAD").strip()
    assert holders(ids[2]) == {f"{TABLE}/production-000001.csv", f"{TABLE}/.production-000001.csv", "segments"}
    report = erase("--id", ids[2])
    assert holders(ids[2]) == set() and all(len(holders(other)) == 3 for other in ids if other != ids[2])
    assert "erased from 3 file(s):\n" in report and "  data/raw/table/production-000001.csv: 1\n" in report
    assert f"still in the data of these commits:\n  {first} " in report
    assert f"models that were made of such data:\n  version {versions.MODEL}/2 (with)\n" in report
    assert "git add data/raw/table.dvc data/raw/.gitignore dvc.lock" in report
    assert "`dvc gc --workspace --cloud` removes the data of all other commits" in report
    assert run(*DVC, "status", "--json", "data/raw/table.dvc") == "{}"
    with (TABLE / "production-000001.csv").open(encoding="utf-16") as file:
        assert len(file.readlines()) == 5
    commit()
    assert collect().files == []  # it does not come back
    again = erase("--id", ids[2])
    assert again.startswith("no file of the workspace has it\nstill in the data of these commits:") and first in again
    run(*DVC, "gc", "--workspace", "--force")
    told = erase("--id", ids[1])
    assert "still in" in told and "unknown, because the data are not in this cache" in told and first in told
    line = json.loads((home / "audit" / chain.FILE).read_text().splitlines()[-1])
    assert (line["event"], line["files"]) == ("erase", 3) and ids[1] not in str(line)


def test_a_value_of_a_column_leads_to_all_rows_and_their_requests(home: Path) -> None:
    ids = serve()
    collect()
    commit()
    before = pd.read_csv(TABLE / "rows.csv", sep=";", encoding="utf-16", dtype=str, keep_default_na=False)
    patient = before["patient"].mode()[0]
    text = (TABLE / "rows.csv").read_text(encoding="utf-16").splitlines(keepends=True)
    erase("--where", f"patient={float(patient)}")
    after = (TABLE / "rows.csv").read_text(encoding="utf-16").splitlines(keepends=True)
    gone = {place + 1 for place, value in enumerate(before["patient"]) if value == patient}
    assert len(gone) > 1 and after == [line for place, line in enumerate(text) if place not in gone]
    assert holders(ids[0])
    erase("--where", "size=0.503")  # a number in a row of a request that the table has as 0,503
    assert holders(ids[3]) == set() and holders(ids[2])


def test_rows_of_parquet_and_hashed_columns(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(TABLE)
    Path("schema/table.yaml").unlink()
    table("parquet")
    ids = serve(private={"colour ✨": "hash"}, key=KEY.encode())
    before = pd.read_parquet(TABLE / "rows.parquet")
    with pytest.raises(UserError, match="nobody is found by this: look at the column's name and value"):
        erase("--where", "colour ✨=Grün")
    monkeypatch.setenv("SERVICE_LOG_KEY", KEY)
    report = erase("--where", "colour ✨=grün")
    after = pd.read_parquet(TABLE / "rows.parquet")
    assert "grün" not in set(after["colour ✨"]) and len(after) == (before["colour ✨"] != "grün").sum()
    assert "data/production" in report and not [*open_segments(SEGMENTS).lines()]
    assert Privacy({}, KEY.encode()).hash("grün") and ids


def test_imported_segments_are_erased_where_they_come_from(home: Path) -> None:
    ids = serve()
    source = home / "kept"
    shutil.move(SEGMENTS, source)
    run(*DVC, "import-url", "--quiet", source, SEGMENTS)
    commit()
    with pytest.raises(UserError, match=rf"data/production is imported from {source}: erase there first"):
        erase("--id", ids[0])
    assert holders(ids[0]) == {"segments"}
    report = erase("--id", ids[0], str(source))
    assert str(source) in report
    assert "data/production is a copy that still has it: `dvc update data/production.dvc`" in report
    assert "still in the data of these commits:" in report
    assert "nobody" not in erase("--id", ids[0], str(source))  # the copy and the commit still have it
    run(*DVC, "update", "--quiet", f"{SEGMENTS}.dvc")
    assert holders(ids[0]) == set() and holders(ids[1]) == {"segments"}


@pytest.mark.parametrize("arguments", [(), ("--id", "a", "--where", "b=c"), ("--where", "b"), ("--where", "b=")])
def test_nobody_is_erased_by_mistake(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="name the person by either --id ID or --where COLUMN=VALUE"):
        erase(*arguments)


def test_a_row_is_not_taken_for_another(home: Path) -> None:
    """The id 7 is no beginning of the id 7-1."""
    with pytest.raises(UserError, match="nobody is found"):
        erase("--id", "0")
    assert "rows.csv: 1\n" in erase("--id", "0-1")
    assert subprocess.run(["git", "diff", "--quiet"], check=False).returncode == 1
