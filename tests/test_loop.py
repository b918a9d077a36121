"""The way back from production: a real service, segments, feedback, DVC's import, `collect`, and a retraining.

The commands are those of docs/feedback.md.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import BakedProject, Copy, free_port, said, wait_until_ready
from own_table import ENV, ROWS, rows
from test_readme import blocks, serve, stop

pytestmark = pytest.mark.pipeline


def metric(client: httpx.Client, name: str) -> float:
    """The sum of a metric over its labels."""
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", client.get("/metrics").text, re.M)
    return sum(map(float, found))


@pytest.fixture(scope="module")
def project(table_project: BakedProject, copy: Copy) -> BakedProject:
    return copy(table_project)


def test_the_loop(project: BakedProject, tmp_path: Path) -> None:
    keep, bring, retrain, look = blocks(project.read("docs/feedback.md"))
    home, port = tmp_path / "home", free_port()
    home.mkdir()
    env = ENV | {"HOME": str(home)}
    project.run("bash", "-c", keep[0], env=env)
    with serve(project, f"export HOME={home} SERVICE_AUDIT={home}/audit; {keep[1]}", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            labels = ask(client, rows(300, 1, shift=0.5))
            refuse(client, labels[0]["id"])
            told = [outcome for start in range(0, 300, 100) for outcome in label(client, labels[start : start + 100])]
            assert {*told} == {"right", "wrong"} and told.count("right") > 250
            assert label(client, labels[:1]) == ["repeated"]
            assert metric(client, "model_feedback_total") == 256 + 301
            assert not list((home / "production").rglob("*.age"))
        printed = stop(server)
    assert f"SERVICE_LOG: 1 of all requests and answers are kept in {home}/production, encrypted" in printed
    assert "Traceback" not in printed
    check_audit(project, home, printed)
    segments = list((home / "production").rglob("*.jsonl.gz.age"))
    assert segments and all(segment.stat().st_mode & 0o777 == 0o600 for segment in segments)

    project.run("bash", "-c", bring[0], env=env)
    project.commit("Import what the service keeps")
    project.run("bash", "-c", look[0], env=env)
    watched = project.read("build/production.md")
    assert re.search(r"^\| variable .*\n.*\n\| x \| [\d.]+ \| 0\.[1-9]\d+ \| [01] of 1 \|$", watched, re.M), watched
    assert "Private columns are not kept, and not watched here: town.\n" in watched
    assert re.search(rf"^\| unknown \| 300 \| {told.count('right') / 300:.3f} ", watched, re.M), watched
    assert project.read("build/production.html").count("data:image/png;base64,") == 4
    before = project.run("git", "rev-parse", "HEAD").stdout
    done = project.run("bash", "-c", retrain[0], env=env)
    report, branch = project.read("build/report.md"), project.read("build/branch").strip()
    assert re.search(r"^300 labeled example\(s\) from production added to data/raw/table$", report, re.M), report
    assert re.search(r"^\| unknown \| 300 \| 100% \| \d+% \| 0 \| 0 \|$", report, re.M), report
    assert project.run("git", "rev-parse", "HEAD").stdout == before and project.git_status() == "", done.stdout

    project.run("git", "checkout", "--quiet", branch)
    project.run("dvc", "checkout", "--quiet")
    (out,) = yaml.safe_load(project.read("data/raw/table.dvc"))["outs"]
    assert out["nfiles"] == 3
    lines = project.read("data/raw/table/production-000001.csv").splitlines()
    assert len(lines) == 301 and lines[0] == "x,z,town,level"
    assert json.loads(project.read("reports/data.json"))["rows"] == ROWS + 300
    assert all(line.split(",")[2] == "" for line in lines[1:])  # private
    again = project.run("bash", "-c", bring[1], env=env)
    assert again.stdout.startswith("0 labeled example(s)")
    project.run("dvc", "repro", "--force")
    assert project.git_status() == ""


def check_audit(project: BakedProject, home: Path, printed: str) -> None:
    """The commands of docs/audit.md, on the log of the service: who told what, without a value."""
    whole, with_head = blocks(project.read("docs/audit.md"))[0]
    env = ENV | {"HOME": str(home)}
    head = re.findall(r"audit: head (\d+:[0-9a-f]{64})$", printed, re.M)[-1]
    with_head = re.sub(r"\d+:[0-9a-f]{64}", head, with_head)
    assert f"nothing was changed; head {head}\n" in project.run("bash", "-c", whole, env=env).stdout
    assert project.run("bash", "-c", with_head, env=env).stdout.count("\n") == 1
    lines = [json.loads(line) for line in (home / "audit/audit.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "configuration", *["feedback"] * (len(lines) - 3), "stop"]
    assert sum(line.get("repeated", 0) for line in lines) == 1
    assert sum(line.get("right", 0) + line.get("wrong", 0) for line in lines) == 300
    assert "low" not in str([line for line in lines if line["event"] == "feedback"])


def ask(client: httpx.Client, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Asks for each row and returns its feedback."""
    labels = []
    for row in table:
        instance = {name: value for name, value in row.items() if name != "level"}
        answer = client.post("/predict", json={"instances": [instance]})
        labels.append({"id": answer.json()["id"], "index": 0, "actual": row["level"]})
        said(answer)
    return labels


def label(client: httpx.Client, items: list[dict[str, Any]]) -> list[str]:
    """Tells the actual values and returns the outcomes."""
    answer = client.post("/feedback", json={"feedback": items})
    assert answer.status_code == 200, answer.text
    outcomes: list[str] = answer.json()["outcomes"]
    return outcomes


def refuse(client: httpx.Client, id: str) -> None:
    """Check 15: wrong feedback is refused in one line, or counted."""
    unknown = {"id": "0" * 32, "actual": "low"}
    assert label(client, [unknown] * 256) == ["unmatched"] * 256
    counted = metric(client, "model_feedback_total")
    for body, status in (
        (json.dumps({"feedback": [{"id": id, "actual": "none"}]}), 400),
        (json.dumps({"feedback": [{"id": id, "actual": float("nan")}]}), 400),
        (json.dumps({"feedback": [{"id": id, "index": 1, "actual": "low"}]}), 400),
        (json.dumps({"feedback": [unknown] * 10_000}), 413),
        (json.dumps({"feedback": "low"}), 400),
        ("[", 400),
        ("", 400),
    ):
        answer = client.post("/feedback", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == status and "\n" not in answer.json()["error"], answer.text
    assert client.post("/feedback", content=b"x").status_code == 415
    assert metric(client, "model_feedback_total") == counted == 256


def test_wrong_settings_are_one_line_at_the_start(project: BakedProject, tmp_path: Path) -> None:
    env = ENV | {"SERVICE_LOG": str(tmp_path), "SERVICE_LOG_SAMPLE": "10 %"}
    done = project.run("python", "-m", "my_experiment", "serve", "--port", "0", env=env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: SERVICE_LOG_SAMPLE=10 %: a number from 0 to 1 is expected\n"


def test_answers_go_on_without_the_folder(project: BakedProject, tmp_path: Path) -> None:
    folder, port = tmp_path / "log", free_port()
    command = f"SERVICE_LOG={folder} PYTHONPATH=src python -m my_experiment serve --port {port}"
    with serve(project, command, port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            shutil.rmtree(folder)
            ask(client, rows(3, 2))
            assert client.post("/feedback", json={}).status_code == 404
        printed = stop(server)
    assert "NOT encrypted: SERVICE_LOG_RECIPIENT is not set" in printed
    assert printed.count("nothing can be kept now, answers go on") == 1 and "the folder is gone" in printed
    assert not folder.exists()
