"""The way back from production: a real service, segments, feedback, DVC's import, `collect`, and a retraining.

The commands are those of docs/feedback.md, typed by `make loop`.
"""

import gzip
import json
import re
import shutil
import tempfile
from pathlib import Path

import httpx
import pytest
import yaml
from chain import deliver
from conftest import BakedProject, Copy, free_port, wait_until_ready
from debian import apt_install
from loop import DRIFTED, ROWS, USUAL, ask, label, play, rows
from PIL import Image
from test_monitoring import metric
from test_readme import blocks, serve, stop

pytestmark = pytest.mark.pipeline


ENV = {"PYTHONPATH": "src"}


@pytest.fixture(scope="module")
def project(table_project: BakedProject, copy: Copy) -> BakedProject:
    return copy(table_project)


def test_the_loop(
    project: BakedProject, copy: Copy, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make loop` plays: an alarm names what drifts, labels become data, and the new model is promoted.

    And then what CI does: the new model takes the place of the other one in production, where its alarm is gone.
    """
    before, served = project.run("git", "rev-parse", "HEAD").stdout, copy(project)
    home, count = tmp_path / "home", USUAL + DRIFTED
    monkeypatch.setenv("SERVICE_AUDIT", f"{home}/audit")
    played = play(project.path, tmp_path, tools)
    assert {alarm["labels"]["column"] for alarm in played.alarms} == {"x"}
    assert {*played.outcomes} == {"right", "wrong"} and len(played.outcomes) == count
    old, new = played.shares
    assert old < 0.8 < new
    assert f"SERVICE_LOG: all requests and answers are kept in {home}/production, encrypted" in played.printed
    assert "Traceback" not in played.printed
    check_audit(project, home, (tmp_path / "promoted.log").read_text())
    segments = list((home / "production").rglob("*.jsonl.gz.age"))
    assert segments and all(segment.stat().st_mode & 0o777 == 0o600 for segment in segments)
    assert (home / "production.key").stat().st_mode & 0o777 == 0o600
    width, height = Image.open(played.picture).size
    assert width > 1000 and height > 1000

    watched = project.read("build/production.md")
    assert re.search(
        r"^\| variable .*\n.*\n\| x \| [\d.]+ \| (?:0\.[1-9]|[1-9])[\d.]+ \| [01] of 1 \|$", watched, re.M
    ), watched
    assert "Private columns are not kept, and not watched here: town.\n" in watched
    share = played.outcomes.count("right") / count
    assert re.search(rf"^\| unknown \| {count} \| {share:.3f} ", watched, re.M), watched
    assert project.read("build/production.html").count("data:image/png;base64,") == 4
    report = project.read("build/report.md")
    assert re.search(rf"^{count} labeled example\(s\) from production added to data/raw/table$", report, re.M), report
    assert re.search(rf"^\| unknown \| {count} \| 100% \| \d+% \| 0 \| 0 \|$", report, re.M), report

    import_, *_, merged = project.run("git", "rev-list", "--reverse", f"{before.strip()}..HEAD").stdout.split()
    assert project.run("git", "rev-parse", project.read("build/branch").strip()).stdout.strip() == merged != import_
    (out,) = yaml.safe_load(project.read("data/raw/table.dvc"))["outs"]
    assert out["nfiles"] == 3
    lines = project.read("data/raw/table/production-000001.csv").splitlines()
    assert len(lines) == count + 1 and lines[0] == "x,z,town,level"
    assert json.loads(project.read("reports/data.json"))["rows"] == ROWS + count
    assert all(line.split(",")[2] == "" for line in lines[1:])  # private
    again = blocks(project.read("docs/feedback.md"))[1][1]
    assert project.run("bash", "-c", again, env=ENV | {"HOME": str(home)}).stdout.startswith("0 labeled example(s)")
    check_delivery(project, served, tools)
    project.run("dvc", "repro", "--force")
    assert project.git_status() == ""
    check_erased(project, home)


def check_delivery(project: BakedProject, served: BakedProject, tools: Path) -> None:
    """The chain of docs/chain.md, from the promoted model to production."""
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        apt_install("haproxy")
    programs = {"haproxy": Path("/usr/sbin/haproxy"), "prometheus": tools / "prometheus"}
    head = project.run("git", "rev-parse", "HEAD").stdout.strip()
    with tempfile.TemporaryDirectory(prefix="chain-") as folder:
        found = deliver(project, served, Path(folder), programs)
    print(f"{found.old} -> {found.new}: PSI of x {found.psi:.3f}, delivered after {found.seconds:.0f} s")
    assert found.alarms[0] == {found.old} and found.new not in found.alarms[1]
    assert found.psi < 0.1 and found.failed == []
    project.run("git", "reset", "--quiet", "--hard", head)


def check_erased(project: BakedProject, home: Path) -> None:
    """The first command of docs/privacy.md, where the segments are."""
    by_id, _ = blocks(project.read("docs/privacy.md"))[-1]
    kept, lines = home / "copy", len(project.read("data/raw/table/production-000001.csv").splitlines())
    shutil.copytree(home / "production", kept)
    ids = [line.split(",")[0] for line in project.read("data/raw/table/.production-000001.csv").splitlines()]
    id, count = ids[-1], ids.count(ids[-1])  # the rows of its request
    done = project.run("bash", "-c", f"{re.sub('[0-9a-f]{32}', id, by_id)} {kept}", env=ENV | {"HOME": str(home)})
    assert "erased from 3 file(s):" in done.stdout, done.stdout
    assert f"data/raw/table/production-000001.csv: {count}\n" in done.stdout, done.stdout
    assert "still in the data of these commits:" in done.stdout
    assert id not in project.read("data/raw/table/.production-000001.csv")
    assert len(project.read("data/raw/table/production-000001.csv").splitlines()) == lines - count


def check_audit(project: BakedProject, home: Path, printed: str) -> None:
    """The commands of docs/audit.md, on the log of the services and commands: who did what, without a value."""
    whole, with_head = blocks(project.read("docs/audit.md"))[0]
    env = ENV | {"HOME": str(home)}
    head = re.findall(r"audit: head (\d+:[0-9a-f]{64})$", printed, re.M)[-1]
    with_head = re.sub(r"\d+:[0-9a-f]{64}", head, with_head)
    assert f"nothing was changed; head {head}\n" in project.run("bash", "-c", whole, env=env).stdout
    assert project.run("bash", "-c", with_head, env=env).stdout.count("\n") == 1
    lines = [json.loads(line) for line in (home / "audit/audit.jsonl").read_text().splitlines()]
    feedback = [line for line in lines if line["event"] == "feedback"]
    service = ["start", "configuration", "stop"]
    events = [line["event"] for line in lines if line not in feedback]
    assert events == [*service, "collect", "register", "champion", *service]
    assert sum(line.get("right", 0) + line.get("wrong", 0) for line in feedback) == USUAL + 2 * DRIFTED
    assert "low" not in str(feedback)


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


def test_only_who_has_a_key_is_answered_and_by_name(project: BakedProject, tmp_path: Path) -> None:
    keys, folder, port = tmp_path / "keys.yaml", tmp_path / "log", free_port()

    def key(*words: str) -> dict[str, str]:
        new = project.run("python", "-m", "my_experiment", "keys", "new", *words, env=ENV | {"SERVICE_KEYS": str(keys)})
        return {"authorization": f"Bearer {new.stdout.strip()}"}

    ward = key("ward-3", "--role", "predict", "--role", "feedback", "--answers", "5")
    watcher = key("prometheus", "--role", "metrics")
    settings = f"SERVICE_KEYS={keys} SERVICE_LOG={folder} SERVICE_FEEDBACK=on SERVICE_PAGE=on"
    with serve(project, f"{settings} make serve", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for path in ("/metrics", "/docs.json", "/ui", "/"):
                answer = client.get(path)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert client.post("/predict", json={}, headers=watcher).status_code == 403
            assert client.get("/metrics", headers=ward).status_code == 403
            client.headers.update(ward | {"x-forwarded-user": "somebody else"})
            labels = ask(client, rows(3, 4))
            assert label(client, labels)
            much = [{name: value for name, value in row.items() if name != "level"} for row in rows(3, 5)]
            refused = client.post("/predict", json={"instances": much})
            assert refused.status_code == 429, refused.text
            assert refused.json()["error"] == "3 answers are more than are left of 5 a day"
            assert int(refused.headers["retry-after"]) > 3600
            client.headers.update(watcher)
            assert metric(client, "service_client_requests_total") == 4
            assert metric(client, "service_refused_total") == 7
        printed = stop(server)
    assert f"SERVICE_KEYS: 2 client(s) of {keys} may ask; each process counts for itself" in printed
    assert "Traceback" not in printed and ward["authorization"].split()[1] not in printed
    (segment,) = folder.rglob("*.jsonl.gz")
    lines = map(json.loads, gzip.decompress(segment.read_bytes()).splitlines())
    (told,) = (line for line in lines if "feedback" in line)
    assert told["contributor"] == "ward-3"
