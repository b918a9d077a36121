"""`make loop`: a model in production, and the whole way back to training, on this machine.

A service is asked for rows, some of which drift; Prometheus notices, Alertmanager tells; labels come as feedback, are
collected, a model is trained and promoted. All by the commands that the pages of a project name.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from dashboard import Drawing, draw
from demo import step
from programs import answering, blocks, free_port, until
from watching import STEP, Watch, tools, watching

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "my_experiment"
ROWS = 1000  # so many that the test split has confidence and outcomes in bins
REQUEST = 16  # rows of a request: of more, the service counts some
RATE = 2  # requests a second: of more rows, the service counts some
USUAL, DRIFTED, SHIFT = 6 * REQUEST, 13 * REQUEST, 2.0  # rows that are asked for, and the shift of the last ones

ALARM, LABELS = "InputDrift", "model_feedback_total"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Played:
    """What happened.

    Attributes:
        outcomes: What the service said of each label.
        printed: What the service printed.
        alarms: What the webhook was told of the drift.
        shares: Share of right answers by labels: of the model before, and of the promoted one.
        picture: The dashboard.
    """

    outcomes: list[str]
    printed: str
    alarms: list[Any]
    shares: tuple[float, float]
    picture: Path


def rows(count: int, seed: int, shift: float = 0.0) -> Rows:
    """Rows of a table with two classes: a line divides them, but for an x that is seldom without a shift."""
    random = np.random.default_rng(seed)
    x, z = random.normal(shift, 1, count).round(6), random.normal(0, 1, count).round(6)
    town = random.choice(["Ulm", "Bad Ems"], count)
    label = np.where(z - np.maximum(x - 1, 0) + 0.2 * random.normal(size=count) > 0, "high", "low")
    return [
        {"x": float(a), "z": float(b), "town": str(c), "level": str(d)}
        for a, b, c, d in zip(x, z, town, label, strict=True)
    ]


def edit(file: Path, old: str, new: str) -> None:
    """Replaces text in a file as a user would."""
    text = file.read_text(encoding="utf-8")
    if old not in text:
        raise SystemExit(f"error: {file} has no {old!r}")
    file.write_text(text.replace(old, new), encoding="utf-8")


def environment(project: Path) -> dict[str, str]:
    """The environment of commands in a project: its tools first, its package importable."""
    path = f"{project / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    person = {f"GIT_{who}_{what}": "demo" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {**person, **os.environ, "PATH": path, "PYTHONPATH": "src"}


def commit(project: Path, message: str, env: Mapping[str, str]) -> None:
    """Commits everything that git shows."""
    for command in (["add", "--all"], ["commit", "--quiet", "--message", message]):
        subprocess.run(["git", *command], cwd=project, env=env, check=True)


def prepare(project: Path) -> None:
    """Gives a project for tables a table of its own in a folder, trains and commits."""
    env, folder, conf = environment(project), project / "data/raw/table", project / "conf"
    folder.mkdir()
    lines = [",".join(map(str, row.values())) for row in rows(ROWS, 0)]
    (folder / "rows.csv").write_text("\n".join(["x,z,town,level", *lines, ""]))
    edit(conf / "config.yaml", "- data: breast_cancer", "- data: csv")
    edit(conf / "config.yaml", "- explain: default", "- explain: none")
    edit(conf / "config.yaml", "- experiment: null", "- experiment: logistic_regression")
    edit(conf / "data/csv.yaml", "path: data/raw/table.csv", "path: data/raw/table")
    edit(conf / "data/csv.yaml", "target: ???", "target: level")
    edit(conf / "gates/default.yaml", "calibration: 0.1", "calibration: null")  # of two hundred test rows
    typed("A table of its own", "dvc add --quiet data/raw/table", project, env)
    typed("Its schema", f"python -m {PACKAGE} schema", project, env)
    edit(project / "schema/table.yaml", "  town:\n", "  town:\n    private: drop\n    nulls: 0.9\n")
    typed("Train", "dvc repro", project, env)
    commit(project, "Our own table", env)


def typed(title: str, command: str, project: Path, env: Mapping[str, str]) -> None:
    """Runs what a user would type in a project."""
    step(title, "bash", "-c", command, cwd=project, env=dict(env))


def ask(client: httpx.Client, table: Rows) -> list[dict[str, Any]]:
    """Asks for rows in one request and returns the feedback on each."""
    instances = [{name: value for name, value in row.items() if name != "level"} for row in table]
    answer = client.post("/predict", json={"instances": instances}).raise_for_status().json()
    return [{"id": answer["id"], "index": index, "actual": row["level"]} for index, row in enumerate(table)]


def ask_all(client: httpx.Client, table: Rows) -> list[dict[str, Any]]:
    """Asks for rows at the rate of a client, and returns the feedback on each."""
    labels = []
    for start in range(0, len(table), REQUEST):
        begun = time.monotonic()
        labels += ask(client, table[start : start + REQUEST])
        time.sleep(max(0, begun + 1 / RATE - time.monotonic()))
    return labels


def label(client: httpx.Client, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells actual values and returns the outcomes."""
    outcomes: list[str] = []
    for start in range(0, len(items), 100):
        told = {"feedback": items[start : start + 100]}
        outcomes += client.post("/feedback", json=told).raise_for_status().json()["outcomes"]
    return outcomes


class Stage:
    """Where the loop is played: a project, a home of its own, and a service that is watched."""

    def __init__(self, project: Path, folder: Path, watch: Watch, port: int) -> None:
        """Takes its parts.

        Args:
            project: A project that `prepare` has trained.
            folder: Folder of the home and of what is printed.
            watch: Prometheus and Alertmanager.
            port: Port of the service.
        """
        self.project, self.folder, self.watch = project, folder, watch
        self.url = f"http://127.0.0.1:{port}"
        self.env = {**environment(project), "HOME": str(folder / "home"), "PORT": str(port)}

    def typed(self, title: str, command: str) -> None:
        """Runs what a user would type."""
        typed(title, command, self.project, self.env)

    @contextlib.contextmanager
    def serving(self, command: str, log: str) -> Iterator[httpx.Client]:
        """Serves until the end of the block; gives a client."""
        print(f"\n== Serve\n   {command}", flush=True)
        ready, path = f"{self.url}/readyz", self.folder / log
        with (
            answering("bash", "-c", command, url=ready, cwd=self.project, log=path, env=self.env),
            httpx.Client(base_url=self.url, timeout=60) as client,
        ):
            yield client

    def scraped(self, rows: int, labels: int) -> None:
        """Waits until Prometheus has seen so many rows and labels of the process that answers."""

        def is_there() -> bool:
            found = [self.watch.value(f"sum({name})") for name in ('model_rows_total{column="x"}', LABELS)]
            return found == [rows, labels]

        until(is_there, f"Prometheus has {rows} rows and {labels} labels")

    def drift(self, client: httpx.Client) -> tuple[list[str], list[Any]]:
        """Asks for rows as in training, and for others; gives outcomes of all labels, and the alarms."""
        print(f"\n== Ask for {USUAL} rows as in training, then for {DRIFTED} whose x drifts by {SHIFT:g}", flush=True)
        labels = ask_all(client, rows(USUAL, 1))
        self.scraped(USUAL, 0)
        if self.watch.alerts(ALARM):
            raise SystemExit("error: rows as in training made an alarm")
        labels += ask_all(client, rows(DRIFTED, 2, SHIFT))
        until(lambda: self.watch.alerts(ALARM), "an alarm")
        alarms = self.watch.alerts(ALARM)
        print(f"   Alertmanager tells: {alarms[0]['annotations']['summary']}", flush=True)
        print(f"\n== Tell what these {len(labels)} rows really are", flush=True)
        outcomes = label(client, labels)
        self.scraped(USUAL + DRIFTED, len(labels))
        return outcomes, alarms

    def retrain(self, bring: str, look: str, retrain: str) -> None:
        """Brings what was kept, trains with it, and promotes."""
        self.typed("Bring what the service kept", bring)
        commit(self.project, "Import what the service keeps", self.env)
        self.typed("Look at it", look)
        self.typed("Collect, retrain, propose", retrain)
        branch = (self.project / "build/branch").read_text(encoding="utf-8").strip()
        self.typed("Review and merge", f"git merge --quiet {branch} && dvc checkout --quiet")
        self.typed("Register", "make register")
        self.typed("Promote", "make promote")


def play(project: Path, folder: Path, programs: Path) -> Played:
    """Plays the loop.

    Args:
        project: A project that `prepare` has trained.
        folder: An empty folder: home of the service, with its key and log; the picture.
        programs: Folder of Prometheus and Alertmanager.

    Returns:
        What happened.
    """
    # The commands of the page, in its order.
    (key, serve), (bring, _), (retrain,), (look,) = blocks((project / "docs/feedback.md").read_text(encoding="utf-8"))
    port, begun, picture = free_port(), time.time(), folder / "dashboard.png"
    (folder / "home").mkdir(parents=True)
    target = (f"127.0.0.1:{port}", {"release": "local", "track": "stable"})
    with watching(folder, programs, [target], project / "monitoring") as watch:
        stage = Stage(project, folder, watch, port)
        stage.typed("A key", key)
        with stage.serving(serve, "service.log") as client:
            outcomes, alarms = stage.drift(client)
        stage.retrain(bring, look, retrain)
        with stage.serving(serve, "promoted.log") as client:
            after = label(client, ask_all(client, rows(DRIFTED, 3, SHIFT)))
            stage.scraped(DRIFTED, DRIFTED)
            chosen = {"$column": "x", "$__rate_interval": "5s"}
            draw(Drawing(watch.prometheus, begun, time.time(), STEP, chosen), picture)
    first, second = (each.count("right") / len(each) for each in (outcomes[USUAL:], after))
    print(f"\nOf the rows that drift, {first:.1%} were answered right, and {second:.1%} are now.")
    printed = (folder / "service.log").read_text(encoding="utf-8")
    return Played(outcomes, printed, alarms, (first, second), picture)


def main() -> None:
    """Generates a project with a table of its own, and plays the loop."""
    folder = Path(sys.argv[1]).resolve()
    project, programs = folder / "my-experiment", tools(folder / "prometheus")
    answers = ("task=tabular-classification", "scope=production")
    words = ("cookiecutter", ".", "--no-input", "--output-dir", str(folder), *answers)
    step("Generate a project", *words, cwd=ROOT, env={**os.environ})
    (project / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    prepare(project)
    played = play(project, folder / "played", programs)
    print(f"The dashboard: {played.picture}\nThe report: {project}/build/production.html")


if __name__ == "__main__":
    main()
