"""`make demo-delivery`: releases by canary and as blue-green on this machine, without root, and pictures of it.

A good release, one that fails a share of its requests and is rolled back by itself, and one that a person takes back
with `undo`; then the good one again, all at once. Controller, HAProxy, Prometheus, gates and the service are the real
ones; steps take seconds.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import numpy as np
from demo import step
from hammer import Answer, Hammer
from hosting import ANALYSIS, JSON_HEAD, PORTS, Host, loopback
from loop import PACKAGE, edit, environment
from matplotlib import pyplot as plt
from matplotlib.patches import Patch
from programs import until
from watching import program

ROOT = Path(__file__).resolve().parent.parent
CANARY = [each for share in (10, 50, 100) for each in ({"setWeight": share}, {"pause": {"duration": "5s"}}, ANALYSIS)]
BLUE_GREEN = [{"setWeight": 100}, {"pause": {"duration": "10s"}}, ANALYSIS]
SHARE = 0.2  # of the requests that the planted fault fails
CLIENTS, PAUSE, MOST = 8, 0.03, 60_000  # a load of at most 270 requests a second, on the loopback interface
GATES = ("errors", "slow", "rejected", "shift", "alive")
FAULT = f"""\
    # Planted by `make demo-delivery`: a share of the requests fails.
    def _answer(self, *request: Any) -> Any:
        if random.random() < {SHARE}:
            raise RuntimeError("planted")
        return super()._answer(*request)
"""

NOTE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}

Steps = Sequence[Mapping[str, Any]]
Release = tuple[str, str]  # its name, and the version of its model in answers
Serve = Callable[[Host, str], Release]  # runs a release in a slot
Color = dict[str, str]


@dataclass(frozen=True)
class Act:
    """What happened to a release.

    Attributes:
        title: What it was, for a person.
        release: Its name.
        version: The version of its model in answers.
        begun: When its deployment began, in seconds since 1970.
        ended: When it had ended.
        first: Seconds until a client had an answer of it.
        full: Seconds until it had all requests; None if it never had.
        reason: Why it was rolled back.
        undone: Seconds that `undo` took.
        requests: How many requests clients made meanwhile.
        failed: How many of them failed.
    """

    title: str
    release: str
    version: str
    begun: float
    ended: float
    first: float
    full: float | None
    reason: str
    undone: float | None
    requests: int
    failed: int

    def told(self) -> str:
        """The figures, for a person."""
        parts = [f"{self.requests} requests, {self.failed} failed", f"first answer after {self.first:.1f} s"]
        if self.full is not None:
            parts.append(f"all requests after {self.full:.1f} s")
        end = "rolled back" if self.reason else "promoted"
        parts.append(f"{end} after {self.ended - self.begun:.1f} s")
        if self.undone is not None:
            parts.append(f"undone within {self.undone:.2f} s")
        return f"{self.title}: {', '.join(parts)}"


class Stage:
    """A host with clients, on which acts are played."""

    def __init__(self, host: Host, hammer: Hammer, after: float = 3.0) -> None:
        """Takes its parts.

        Args:
            host: A host; a release serves all requests.
            hammer: Its clients.
            after: Seconds that are drawn before and after an act.
        """
        self.host, self.hammer, self.after = host, hammer, after
        self.live = sys.stdout.isatty()

    def follow(self, release: str) -> int:
        """Runs the controller until it ends, and tells what it does; gives its exit status."""
        told_before = len(self.host.history(0))
        with self.host.controller(release) as process:
            while process.poll() is None:
                for line in self.host.history(0)[told_before:]:
                    told_before += 1
                    self.say(f"   {line['event']}")
                if self.live:
                    told = self.host.command("status").stdout.strip().replace("\n", "; ")
                    told = told.partition(f"{release}: ")[2] or told  # a terminal has room for the numbers alone
                    width = shutil.get_terminal_size().columns - 4
                    print(f"\r\x1b[2K   {told[:width]}", end="", flush=True)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5 if self.live else 0.1)
            _, errors = process.communicate()
        for line in self.host.history(0)[told_before:]:
            self.say(f"   {line['event']}")
        if errors:
            self.say(f"   {errors.strip()}")
        return process.returncode

    def say(self, text: str) -> None:
        """Prints a line in place of the one that tells how it goes."""
        print(f"\r\x1b[2K{text}" if self.live else text, flush=True)

    def seen(self, count: int) -> None:
        """Waits for answers, so that the time after an act is in its picture."""
        now, end = len(self.hammer.answers), time.time() + self.after
        until(lambda: len(self.hammer.answers) > now + count and time.time() > end, f"{count} answers")

    def act(self, title: str, serve: Serve, steps: Steps, undo: bool = False) -> Act:
        """Rolls a release out, and takes it back if that is wanted.

        Args:
            title: What it is, for a person.
            serve: Runs it in a slot.
            steps: Its steps.
            undo: Whether a person takes it back after it got all requests.
        """
        host, undone = self.host, None
        self.say(f"\n== {title}")
        release, version = serve(host, host.idle())
        host.describe(release, steps)
        begun = time.time()
        self.follow(release)
        ended = time.time()
        self.seen(20)
        reason = "" if host.now()["release"][host.now()["stable"]] == release else host.now()["reason"]
        if undo:
            self.say("   $ rollout.py undo")
            moment = time.time()
            host.command("undo")
            undone = time.time() - moment
            self.say(f"   {host.history(moment)[-1]['event']}")
            self.seen(20)
        answers = [answer for answer in self.hammer.answers if answer.begun >= begun]
        first = min(answer.ended for answer in answers if answer.version == version) - begun
        lines = [
            line["time"] for line in host.history(begun) if "promoting" in line["state"] or line["share"] == 10_000
        ]
        full = min(lines) - begun if lines else None
        failed = sum(answer.status != 200 for answer in answers)
        played = Act(title, release, version, begun, ended, first, full, reason, undone, len(answers), failed)
        self.say(f"   {played.told()}")
        return played


def canary(stage: Stage, good: Serve, failing: Serve, other: Serve, steps: Steps = CANARY) -> list[Act]:
    """Plays three releases by canary.

    Args:
        stage: Where.
        good: Runs a good release.
        failing: Runs one that fails a share of its requests.
        other: Runs another good one, which is taken back.
        steps: Their steps.
    """
    return [
        stage.act("a good release", good, steps),
        stage.act("a failing release", failing, steps),
        stage.act("a release that is undone", other, steps, undo=True),
    ]


class Drawing:
    """What happened during acts, over time."""

    def __init__(self, stage: Stage, acts: Sequence[Act]) -> None:
        """Takes what to draw.

        Args:
            stage: Where they were played.
            acts: The acts, in their order.
        """
        self.host, self.acts = stage.host, acts
        self.start, self.end = acts[0].begun - stage.after, time.time()
        # Answers are counted in bins of this many seconds; an incomplete last bin is not drawn.
        width = 1.0 if self.end - self.start > 60 else 0.5
        self.edges = np.arange(0, self.end - self.start, width)
        self.width = width
        self.answers: list[Answer] = [each for each in stage.hammer.answers if each.begun >= self.start]
        names = [act.release for act in acts]
        palette = ["#5794f2", "#73bf69", "#ff9830", "#b877d9"]
        labels = ["the release before", *(act.title for act in acts)]
        self.labels = dict(zip(["", *names], labels, strict=True))
        self.colors: Color = dict(zip(["", *names], palette, strict=False))

    def series(self, expression: str) -> Iterator[tuple[dict[str, str], Any, Any]]:
        """Labels, seconds since the begin, and values of each series."""
        given: dict[str, Any] = {"query": expression, "start": self.start, "end": self.end, "step": 0.5}
        answer = httpx.get(f"{self.host.prometheus}/api/v1/query_range", params=given, timeout=30).json()
        for each in answer["data"]["result"]:
            at, values = np.array(each["values"], float).T
            yield each["metric"], at - self.start, values

    def share(self, axes: Any) -> None:
        """The share of each act's release, as the controller decided."""
        for act in self.acts:
            times, shares = [act.begun - self.start], [0.0]
            for line in self.host.history(act.begun):
                if line["event"].startswith("preparing:") and act.release not in line["event"]:
                    break
                served = line["state"] in ("promoting", "warm")
                times.append(line["time"] - self.start)
                shares.append(100.0 if served else line["share"] / 100)
            following = [other.begun for other in self.acts if other.begun > act.begun]
            times.append(min([*following, self.end]) - self.start)
            shares.append(shares[-1])
            color = self.colors[act.release]
            axes.step(times, shares, where="post", color=color, linewidth=1.8)
            axes.fill_between(times, shares, step="post", color=color, alpha=0.25, linewidth=0)
            if act.reason:
                axes.text(times[-2] + 1, 58, f"rolled back by itself:\n{act.reason}", fontsize=8, bbox=NOTE)
            if act.undone is not None:
                axes.text(times[-2] - 0.5, 20, "undo", fontsize=8, ha="right")
        axes.set_ylim(0, 105)
        weights = {line["share"] // 100 for line in self.host.history(self.start)}
        axes.set_yticks(sorted({0, 100, *weights}))
        axes.set_ylabel("share of the\nnew release, %")

    def requests(self, axes: Any) -> None:
        """Answers of each release in a second, as clients had them, stacked."""
        versions = {act.version: act.release for act in self.acts}
        times: dict[str, list[float]] = {name: [] for name in self.labels}
        for answer in self.answers:
            if answer.status == 200:
                times[versions.get(answer.version, "")].append(answer.ended - self.start)
        rates = [np.histogram(each, self.edges)[0] / self.width for each in times.values()]
        rates = [np.append(each, each[-1]) for each in rates]
        colors = [self.colors[name] for name in times]
        axes.stackplot(self.edges, *rates, colors=colors, alpha=0.85, linewidth=0, step="post")
        axes.set_ylim(0)
        axes.set_ylabel("answers a second\nby release")

    def failures(self, axes: Any) -> None:
        """Requests that clients saw fail."""
        failed = [answer.ended - self.start for answer in self.answers if answer.status != 200]
        counts = np.histogram(failed, self.edges)[0] / self.width
        axes.bar(self.edges[:-1], counts, self.width, align="edge", color="#e02f44")
        axes.set_ylim(0, max(3, counts.max(initial=0) * 1.2))
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        axes.set_ylabel("failed requests\na second")
        if not failed:
            axes.text(0.5, 0.5, "none", ha="center", va="center", color="#888888", transform=axes.transAxes)

    def verdicts(self, axes: Any) -> None:
        """What each gate says of the release that is judged."""
        colors = {1: "#73bf69", 0: "#d5d8dc", -1: "#e02f44"}
        judged = {act.release: (act.begun - self.start, act.ended - self.start) for act in self.acts}
        for metric, at, values in self.series("rollout:verdict"):
            if metric["gate"] not in GATES or metric["release"] not in judged:
                continue
            begun, ended = judged[metric["release"]]
            row = len(GATES) - 1 - GATES.index(metric["gate"])
            for moment, value in zip(at, values, strict=True):
                if begun <= moment <= ended + 0.5 and value in colors:
                    axes.broken_barh([(moment - 0.5, 0.5)], (row - 0.4, 0.8), color=colors[int(value)], linewidth=0)
        axes.set_ylim(-0.6, len(GATES) - 0.4)
        axes.set_yticks(range(len(GATES)), GATES[::-1])
        axes.set_ylabel("verdicts\nof the gates")
        words = {1: "good", 0: "undecided", -1: "bad"}
        patches = [Patch(color=color, label=words[value]) for value, color in colors.items()]
        axes.legend(handles=patches, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)

    def draw(self, title: str, target: Path) -> None:
        """Draws all of it into a file."""
        matplotlib.use("Agg")
        rows = (self.share, self.requests, self.failures, self.verdicts)
        with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
            figure, axes = plt.subplots(4, sharex=True, figsize=(10, 7), layout="constrained")
            figure.align_ylabels(axes)
            for row, place in zip(rows, axes, strict=True):
                row(place)
                for act in self.acts:
                    place.axvline(act.begun - self.start, color="#888888", linewidth=0.8, linestyle=":")
            patches = [Patch(color=self.colors[name], label=label) for name, label in self.labels.items()]
            axes[0].legend(handles=patches, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
            axes[0].set_title(title, loc="left", fontsize=11, fontweight="bold")
            axes[-1].set_xlabel("seconds")
            axes[-1].set_xlim(0, self.edges[-1])
            figure.savefig(target, dpi=100)
            plt.close(figure)


def play(stage: Stage, title: str, target: Path, acts: Callable[[Stage], list[Act]]) -> list[Act]:
    """Plays acts and draws them.

    Args:
        stage: Where.
        title: Of the picture.
        target: The picture.
        acts: Plays them.
    """
    with stage.hammer.running():
        stage.seen(20)
        played = acts(stage)
    Drawing(stage, played).draw(title, target)
    print(f"   The picture: {target}", flush=True)
    return played


def serving(project: Path) -> Serve:
    """Runs the service of a reproduced project in a slot; its release is named by model and code, as by an image."""
    model = json.loads((project / "models/model.json").read_text(encoding="utf-8"))["sha256"]
    code = (project / f"src/{PACKAGE}/service.py").read_bytes()
    release = hashlib.sha256(model.encode() + code).hexdigest()[:12]

    def serve(host: Host, slot: str) -> Release:
        env = {**environment(project), "SERVICE_RELEASE": release, "SERVICE_MODEL_SHA256": model}
        env |= {"HOME": str(host.root), "BENTOML_HOME": str(host.root / "bentoml"), "BENTOML_DO_NOT_TRACK": "true"}
        words = ("python", "-m", PACKAGE, "serve", "--host", host.address, "--port", str(PORTS[slot]))
        host.contain(slot, *words, cwd=project, env=env)
        return release, model[:12]

    return serve


@contextlib.contextmanager
def hosting(folder: Path, project: Path, programs: Mapping[str, Path], first: Serve) -> Iterator[Host]:
    """A host whose first release serves all requests, until the end of the block."""
    folder.mkdir()
    with contextlib.ExitStack() as resources:
        host = Host(folder, loopback(), resources, programs)
        host.lay(project)
        host.command("configure")
        host.start("haproxy")
        host.start("prometheus")
        release, _ = first(host, host.idle())
        host.describe(release, CANARY)
        host.command("run", release)
        yield host


def releases(folder: Path) -> tuple[list[Path], list[bytes]]:
    """Four releases of a project, and requests: the first one, a good one, a failing one, another good one."""
    first = folder / "first"
    answers = ("task=tabular-classification", "scope=production", "deploy=ansible")
    words = ("cookiecutter", ".", "--no-input", "--output-dir", str(folder), *answers)
    step("Generate a project", *words, cwd=ROOT, env={**os.environ})
    (folder / "my-experiment").rename(first)
    (first / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    edit(first / "conf/config.yaml", "- explain: default", "- explain: none")
    edit(first / "conf/config.yaml", "- experiment: null", "- experiment: logistic_regression")
    step("Its first model", "dvc", "repro", "--quiet", cwd=first, env=environment(first))
    copies = [first]
    for seed, name in enumerate(("good", "failing", "other")):
        copies.append(folder / name)
        shutil.copytree(first, copies[-1], symlinks=True)
        edit(copies[-1] / "conf/config.yaml", "experiment: logistic_regression", "experiment: gradient_boosting")
        edit(copies[-1] / "conf/train/boosting.yaml", "seed: 0 ", f"seed: {seed} ")
        step(f"The model of a {name} one", "dvc", "repro", "--quiet", cwd=copies[-1], env=environment(copies[-1]))
    _, _, failing, other = copies
    service = f"src/{PACKAGE}/service.py"
    edit(failing / service, "    limits = Limits()\n", f"    limits = Limits()\n\n{FAULT}")
    edit(failing / service, "import bentoml\n", "import random\nfrom typing import Any\n\nimport bentoml\n")
    edit(other / service, "    limits = Limits()\n", "    limits = Limits(instances=1024)\n")
    return copies, bodies(first)


def bodies(project: Path) -> list[bytes]:
    """Requests with rows of the test split of a project."""
    code = (
        f"import json; from {PACKAGE}.harness import prepared;"
        "feed = next(prepared.modality(prepared.manifest()).feeds('test', 40));"
        "rows = zip(*(value.ravel().tolist() for value in feed.values()));"
        "print(json.dumps([dict(zip(feed, row)) for row in rows]))"
    )
    words = ("python", "-c", code)
    done = subprocess.run(words, cwd=project, env=environment(project), check=True, capture_output=True, text=True)
    return [json.dumps({"instances": [row]}).encode() for row in json.loads(done.stdout)]


def main() -> None:
    """Generates a project, makes releases of it, and rolls them out."""
    target = Path(sys.argv[1]).resolve()
    programs = {name: program(name, target / name) for name in ("haproxy", "prometheus")}
    target.mkdir(parents=True, exist_ok=True)
    projects, requests = releases(target)
    first, good, failing, other = map(serving, projects)
    print(f"\nThe failing release fails {SHARE:.0%} of its requests: see src/{PACKAGE}/service.py in {projects[2]}")
    told: list[str] = []
    pairs = (
        ("canary", "Canary: 10, 50, 100 %", lambda stage: canary(stage, good, failing, other)),
        ("blue-green", "Blue-green: all at once", lambda stage: [stage.act("a good release", good, BLUE_GREEN)]),
    )
    for name, title, acts in pairs:
        with hosting(target / f"host-{name}", projects[0], programs, first) as host:
            hammer = Hammer(host.service, [(JSON_HEAD, body) for body in requests], CLIENTS, MOST, PAUSE)
            told += [f"{name}: {act.told()}" for act in play(Stage(host, hammer), title, target / f"{name}.png", acts)]
    print("\n" + "\n".join(told))


if __name__ == "__main__":
    main()
