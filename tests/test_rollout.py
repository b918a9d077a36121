"""The controller of rollouts with the real HAProxy, the real Prometheus and the project's gates.

Numbers of cases are those of the study of deliveries. Steps take seconds here, scrapes and rules one.
"""

import io
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import delivery
import httpx
import numpy as np
import pytest
from clusters import wait_until
from conftest import TEMPLATE, VENV, BakedProject, execute
from debian import apt_install
from hammer import Hammer
from hosting import ANALYSIS, EXPIRY, JSON_HEAD, PORTS, Host, loopback
from PIL import Image
from processes import kill
from scipy.stats import binom
from test_service import environment

DELIVERY = TEMPLATE / "src/{{cookiecutter.package}}/harness/delivery"
CANARY = [{"setWeight": 10}, {"pause": {"duration": "2s"}}, ANALYSIS]
PLANTED = [(JSON_HEAD, b'{"instances": [[0]]}')]


@dataclass
class Stack(Host):
    """A host whose releases have planted faults."""

    releases: int = 0

    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return content

    def plant(self, slot: str, fail: float = 0, slow: float = 0, release: str = "") -> str:
        """Runs a release in a slot, a new one unless it is named, with planted faults; gives its name."""
        self.releases += 1
        release = release or f"{self.releases:012x}"
        words = (self.address, str(PORTS[slot]), release, release, str(fail), str(slow))
        self.contain(slot, sys.executable, Path(__file__).parent / "planted.py", *words, cwd=self.root)
        return release

    @contextmanager
    def rollout(
        self, steps: Sequence[object], fail: float = 0, slow: float = 0, deadline: int = 60
    ) -> Iterator["subprocess.Popen[str]"]:
        """Rolls a new release out with planted faults, until the end of the block at most."""
        release = self.plant(self.idle(), fail, slow)
        self.describe(release, steps, deadline)
        with self.controller(release) as process:
            yield process
        self.command("abort")

    def until(self, seconds: float = 30, **wanted: Any) -> float:
        """Waits until the status has values; gives the time."""
        wait_until(lambda: wanted.items() <= self.now().items(), f"{wanted}: {self.now()}", seconds)
        return time.time()

    def shares(self, since: float) -> list[tuple[float, float]]:
        """When which share began, of 1, as the history tells."""
        return [(line["time"], line["share"] / 10_000) for line in self.history(since)]

    def hammer(self, clients: int = 8, pause: float = 0.01, most: int = 20_000) -> Hammer:
        """Clients of the service: a few hundred requests a second, unless said otherwise."""
        return Hammer(self.service, PLANTED, clients, most, pause)


@pytest.fixture(scope="module")
def stack(tools: Path) -> Iterator[Stack]:
    """A running balancer with Prometheus; the first release serves all requests."""
    if not shutil.which("haproxy", path="/usr/sbin:/usr/bin"):
        apt_install("haproxy")
    programs = {"haproxy": Path("/usr/sbin/haproxy"), "prometheus": tools / "prometheus"}
    with ExitStack() as resources:
        root = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="rollout-")))
        made = Stack(root, loopback(), resources, programs)
        nan = {"record": "rollout:verdict", "expr": "vector(0) / 0", "labels": {"gate": "errors", "release": "nan"}}
        made.lay(TEMPLATE, [{"name": "nan", "rules": [nan]}])
        told = made.command("configure").stdout.split()
        assert [Path(path).name for path in told] == ["certificate.cfg", "servers.cfg", "slots.map", "targets.json"]
        assert made.command("configure").stdout == ""
        made.start("haproxy")
        made.start("prometheus")
        first = made.plant("green")
        made.describe(first, CANARY)
        assert "promoting" in made.command("run", first).stdout
        yield made


def ended(process: "subprocess.Popen[str]", seconds: float = 60) -> tuple[int, str]:
    """Exit status of a controller, and what it told."""
    output, errors = process.communicate(timeout=seconds)
    assert "Traceback" not in errors, errors
    return process.returncode, output + errors


def failed(hammer: Hammer) -> list[Any]:
    return [answer for answer in hammer.answers if answer.status != 200]


def served(hammer: Hammer, since: float = 0, until: float = float("inf")) -> Counter[str]:
    """How many answers each version gave to requests that began and ended within a time."""
    return Counter(answer.version for answer in hammer.answers if since <= answer.begun and answer.ended <= until)


def within(count: int, number: int, share: float) -> bool:
    """Whether a count is within the 99.9 % interval of a binomial distribution."""
    return bool(binom.ppf(0.0005, number, share) <= count <= binom.ppf(0.9995, number, share))


def requests(project: BakedProject) -> list[tuple[bytes, bytes]]:
    """Requests with pictures of the test split, as JSON and as files in turn."""
    made = []
    for image in np.load(project.path / "data/prepared/test/images.npy")[:40]:
        made.append((JSON_HEAD, json.dumps({"instances": [image.tolist()]}).encode()))
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        form = httpx.Request("POST", "http://x", files={"file": ("x.png", file.getvalue())})
        head = f"POST /predict_file HTTP/1.1\r\nContent-Type: {form.headers['content-type']}\r\n"
        made.append((head.encode(), form.read()))
    return made


@pytest.mark.pipeline
@pytest.mark.service
def test_1_ten_thousand_requests_during_a_canary_and_a_blue_green(
    stack: Stack, reproduced_project: BakedProject, quick_project: BakedProject, tmp_path: Path
) -> None:
    """The real service with two models; each half of the clients keeps its connections."""

    def serve(slot: str, project: BakedProject) -> str:
        stack.releases += 1
        release = f"{stack.releases:012x}"
        (home := tmp_path / release).mkdir()
        env = {**environment(home), "SERVICE_RELEASE": release}
        words = (VENV / "bin/bentoml", "serve", ".", "--host", stack.address, "--port", str(PORTS[slot]))
        stack.contain(slot, *words, cwd=project.path, env=env)
        return release

    def roll(release: str, steps: Sequence[object]) -> tuple[list[tuple[float, float]], float]:
        stack.describe(release, steps)
        begun = time.time()
        told = stack.command("run", release).stdout
        assert f"warm: {release} serves all requests" in told
        return stack.shares(begun), time.time()

    old, new = (
        json.loads((project.path / "models/model.json").read_text())["sha256"][:12]
        for project in (reproduced_project, quick_project)
    )
    roll(serve(stack.idle(), reproduced_project), [{"setWeight": 100}])
    steps = [
        step for share in (10, 50, 100) for step in ({"setWeight": share}, {"pause": {"duration": "2s"}}, ANALYSIS)
    ]
    with Hammer(stack.service, requests(reproduced_project), 32, pause=0.03).running() as hammer:
        changes, ended = roll(serve(stack.idle(), quick_project), steps)
        for (begun, share), (end, _) in itertools.pairwise([*changes, (ended, 0)]):
            asked = served(hammer, begun + 0.2, end)  # what was decided then is in HAProxy soon after
            if 0 < share < 1 and asked:
                assert within(asked[new], sum(asked.values()), share), (share, asked)
        blue_green = serve(stack.idle(), reproduced_project)
        begun = time.time()
        changes, ended = roll(blue_green, [{"setWeight": 100}, {"pause": {"duration": "1s"}}, ANALYSIS])
        asked = served(hammer, begun, ended)
        first = min(answer.ended for answer in hammer.answers if answer.version == old and answer.begun > begun)
        wait_until(lambda: len(hammer.answers) > 10_000, "10,000 answers")
    print(f"{len(hammer.answers)} requests; blue-green: first answer after {first - begun:.2f} s, {asked}")
    assert failed(hammer) == []
    assert set(served(hammer)) == {old, new}


def test_what_make_demo_delivery_plays(stack: Stack, tmp_path: Path) -> None:
    """Its acts and pictures, with planted releases in place of trained ones."""

    def planted(host: Host, slot: str, fail: float = 0) -> delivery.Release:
        release = stack.plant(slot, fail)
        return release, release

    def stage() -> delivery.Stage:
        return delivery.Stage(stack, stack.hammer(), after=0.1)

    # A release that knows the requests, whatever the test before has left.
    first = stack.plant(stack.idle())
    stack.describe(first, [{"setWeight": 100}])
    stack.command("run", first)
    steps: list[dict[str, Any]] = [{"setWeight": 50}, ANALYSIS, {"setWeight": 100}]
    acts = partial(delivery.canary, good=planted, failing=partial(planted, fail=0.5), other=planted, steps=steps)
    good, failing, undone = delivery.play(stage(), "Canary", tmp_path / "canary.png", acts)
    assert stack.now()["reason"] == "undone by hand" and stack.now()["refused"] == undone.release

    def at_once(on: delivery.Stage) -> list[delivery.Act]:
        return [on.act("All at once", planted, [{"setWeight": 100}, ANALYSIS])]

    (blue_green,) = delivery.play(stage(), "Blue-green", tmp_path / "blue-green.png", at_once)
    for act in (good, undone, blue_green):
        assert act.failed == 0 < act.requests and act.reason == ""
        assert act.full is not None and 0 < act.first < act.full + 1 and act.full <= act.ended - act.begun
    assert re.match(r"errors bad: \d+ requests, \d+ bad", failing.reason)
    assert failing.failed > 0 and failing.full is None
    assert undone.undone is not None and undone.undone < 2
    for name in ("canary", "blue-green"):
        assert np.ptp(np.asarray(Image.open(tmp_path / f"{name}.png"))[..., :3]) == 255


@pytest.mark.parametrize(
    ("fail", "slow", "pause", "limit", "gate"),
    [(1, 0, 0.4, 15, "errors"), (0.05, 0, 0.02, 60, "errors"), (0, 0.5, 0.02, 60, "slow")],
    ids=["fails always", "fails at times", "slow"],
)
def test_2_a_bad_canary_loses_its_share(
    stack: Stack, fail: float, slow: float, pause: float, limit: float, gate: str
) -> None:
    """20 requests a second if it always fails; more for what needs more evidence, which would take minutes."""
    # Until Prometheus has seen the end of the candidate before, it counts what that one did in this slot, too.
    query = f'{stack.prometheus}/api/v1/query?query=bentoml_service_request_total{{track="canary"}}'
    wait_until(lambda: httpx.get(query).json()["data"]["result"] == [], "no candidate")
    with stack.hammer(pause=pause).running() as hammer, stack.rollout(CANARY, fail, slow) as process:
        code, told = ended(process)
        gone = time.time()
        stable, candidate = (stack.now()["release"][slot] for slot in (stack.now()["stable"], stack.idle()))
        wait_until(lambda: sum(served(hammer, gone).values()) > 20, "answers")
    assert code == 1
    reason = stack.now()["reason"]
    assert re.search(rf"{gate} bad: \d+ requests, \d+ bad", reason), told
    assert f"error: {candidate} was rolled back: {reason}" in told
    assert set(served(hammer, gone)) == {stable}, "the canary still answers"
    bad = [a for a in hammer.answers if a.status != 200 or a.ended - a.begun > 0.14]
    assert min(a.begun for a in bad) > gone - limit
    # Clients saw at most its share of the requests of that time; a slow one was slow for half of them.
    since = stack.shares(0)[-6:][0][0]
    number = len([a for a in hammer.answers if since <= a.begun <= gone])
    assert len(bad) <= binom.ppf(0.9995, number, 0.1), (len(bad), number)
    assert stack.command("run", candidate, check=False).returncode == 1, "it would be tried again by each run of Puppet"


def test_3_a_killed_canary_costs_no_request(stack: Stack) -> None:
    steps = [{"setWeight": 50}, {"pause": {"duration": "30s"}}]
    with stack.hammer(clients=16, pause=0).running() as hammer, stack.rollout(steps) as process:
        candidate = stack.idle()
        stack.until(share=5000)
        wait_until(lambda: len(served(hammer)) == 2, "an answer of the canary")
        kill(stack.containers[PORTS[candidate]])
        killed = time.time()
        code, told = ended(process, 15)
        assert time.time() - killed < 15
    assert code == 1 and re.search("alive bad|no container is ready: app-1", told)
    # Also what the kernel had received for the killed process, and it had not read: a reset.
    assert failed(hammer) == []
    assert len(served(hammer, killed)) == 1


def test_4_a_killed_controller_goes_on_where_it_was(stack: Stack) -> None:
    steps = [
        {"setWeight": 10},
        {"pause": {"duration": "2s"}},
        {"setWeight": 60},
        {"pause": {"duration": "2s"}},
        ANALYSIS,
    ]
    moments, kills, stable = random.Random(4), 0, stack.now()["stable"]
    with stack.hammer(pause=0.02).running() as hammer:
        while kills < 20:
            release = stack.plant(stack.idle())
            stack.describe(release, steps)
            begun, before = time.time(), stack.now()
            while True:
                with stack.controller(release) as process:
                    try:
                        code, told = ended(process, moments.uniform(0.1, 0.9))
                        break
                    except subprocess.TimeoutExpired:
                        process.kill()
                        kills += 1
                now = stack.now()
                # It may not have begun.
                assert now == before or now["state"] in ("idle", "warm", "preparing", "step", "promoting"), str(now)
            assert code == 0, told
            shares = [share for _, share in stack.shares(begun)]
            assert sorted(set(shares)) == [0, 0.1, 0.6] and stack.now()["state"] == "warm"
            assert stack.now()["stable"] != stable
            stable = stack.now()["stable"]
        assert failed(hammer) == []

        # And one that does not come back: from the second on that is in the map, nobody else answers.
        with stack.rollout([{"setWeight": 50}, {"pause": {"duration": "60s"}}]) as process:
            stack.until(share=5000)
            process.kill()
            until = stack.now()["until"]
            assert until - time.time() <= EXPIRY
            old = stack.now()["release"][stable]
            wait_until(lambda: time.time() > until and sum(served(hammer, until).values()) > 50, "answers")
            assert len(served(hammer, until - 1)) >= 1 and set(served(hammer, until)) == {old}
            assert stack.now()["share"] == 0 and stack.now()["state"] == "step"
            again = stack.command("run", stack.now()["candidate"], check=False)
            assert again.returncode == 1 and f"the controller was away for more than {EXPIRY} s" in again.stderr
    assert failed(hammer) == []


def test_5_a_killed_balancer_is_back_with_the_same_share(stack: Stack) -> None:
    with (
        stack.hammer(clients=4).running() as hammer,
        stack.rollout([{"setWeight": 50}, {"pause": {"duration": "60s"}}]),
    ):
        stack.until(share=5000)
        kill(stack.processes["haproxy"])
        killed = time.time()
        stack.start("haproxy")
        back = time.time()
        assert back - killed < 2
        wait_until(lambda: sum(served(hammer, back).values()) > 400, "answers")
        now = time.time()
        asked = served(hammer, back, now)
        candidate = stack.now()["candidate"]
        assert within(asked[candidate], sum(asked.values()), 0.5), asked
        assert all(answer.ended < back for answer in failed(hammer))


def test_6_abort_and_undo(stack: Stack) -> None:
    with stack.hammer().running() as hammer:
        with stack.rollout([{"setWeight": 50}, {"pause": {"duration": "60s"}}]) as process:
            stack.until(share=5000)
            refused = stack.command("undo", check=False)
            assert refused.returncode == 1 and "is under way: wait for its end, or abort it" in refused.stderr
            stable = stack.now()["release"][stack.now()["stable"]]
            begun = time.time()
            stack.command("abort")
            gone = time.time()
            assert gone - begun < 1 and ended(process)[0] == 1
            wait_until(lambda: sum(served(hammer, gone).values()) > 100, "answers")
            assert set(served(hammer, gone)) == {stable} and stack.now()["reason"] == "aborted by hand"
        assert "nothing to undo" in stack.command("undo", check=False).stderr

        with stack.rollout([{"setWeight": 100}, {"pause": {"duration": "1s"}}]) as process:
            assert ended(process)[0] == 0
        undone = stack.now()["release"][stack.now()["stable"]]
        begun = time.time()
        stack.command("undo")
        gone = time.time()
        assert gone - begun < 2
        wait_until(lambda: sum(served(hammer, gone).values()) > 100, "answers")
        assert set(served(hammer, gone)) == {stable} and stack.now()["reason"] == "undone by hand"
        assert "was rolled back: undone by hand" in stack.command("run", undone, check=False).stderr

        # It may be tried again, and goes back where the release before is described again, which has run on.
        stack.command("again")
        stack.describe(undone, [{"setWeight": 100}])
        stack.command("run", undone)
        begun = time.time()
        stack.describe(stable, CANARY)
        assert "which has run on" in stack.command("run", stable).stdout
        assert time.time() - begun < 2
    assert failed(hammer) == []
    port = PORTS[stack.idle()]
    kill(stack.containers[port])
    stack.containers[port].wait()
    assert "does not run: `systemctl start model@" in stack.command("undo", check=False).stderr


def test_7_without_evidence_the_share_never_rises(stack: Stack) -> None:
    steps = [{"setWeight": 10}, ANALYSIS, {"setWeight": 90}]
    program = "import peers; print(peers.worded(peers.judge('nan')))"
    assert execute(sys.executable, "-c", program, cwd=stack.root, env=dict(stack.env)).stdout == "errors undecided\n"
    with stack.hammer(clients=1, pause=0.05).running(), stack.rollout(steps, deadline=8) as process:
        stack.until(step=1)
        words = r"10 % of requests, step 2 of 3\n.*errors undecided: \d+ of \d+ requests needed, 0 bad"
        wait_until(lambda: re.search(words, stack.command("status").stdout), words, 8)
        code, told = ended(process)
        assert code == 1 and re.search(r"undecided after 8 s: .*errors undecided: \d+ of \d+ requests needed", told)


def test_9_one_at_a_time(stack: Stack) -> None:
    with stack.rollout([{"setWeight": 50}, {"pause": {"duration": "60s"}}]):
        stack.until(share=5000)
        now = stack.now()
        release, other = now["candidate"], "f" * 12
        for wanted in (release, other):
            refused = stack.command("run", wanted, check=False)
            assert refused.returncode == 1 and f"`rollout.py run {release}` is under way" in refused.stderr
        stack.command("run", release, "--check")
        assert stack.command("run", other, "--check", check=False).returncode == 1
        stack.describe(other, CANARY)
        prepared = stack.command("prepare", check=False)
        assert prepared.returncode == 1 and f"{release} is on its way: wait for its end, or abort it" in prepared.stderr
        assert stack.now()["share"] == 5000
    stable = stack.now()["release"][stack.now()["stable"]]
    before = (stack.state / "history.jsonl").read_text()
    stack.command("run", stable)
    stack.command("run", stable, "--check")
    assert (stack.state / "history.jsonl").read_text() == before
    stack.describe(stable, [{"setWeight": 50}, {"experiment": {}}])
    stack.describe("e" * 12, [{"setWeight": 50}, {"experiment": {}}])
    unknown = stack.command("run", "e" * 12, check=False).stderr
    assert "is none of the steps setWeight, pause and analysis" in unknown


def test_14_a_broken_release_does_not_block_its_fix(stack: Stack) -> None:
    now = stack.now()
    stack.plant(now["stable"], fail=1, release=now["release"][now["stable"]])
    steps = [{"setWeight": 50}, {"pause": {"duration": "1s"}}, ANALYSIS]
    with stack.hammer(clients=16, pause=0.005).running() as hammer, stack.rollout(steps) as process:
        code, told = ended(process)
        assert code == 0, told
    assert len(failed(hammer)) > 100


@pytest.mark.soak
def test_ten_minutes_of_rollouts_in_which_everybody_is_killed_at_times(stack: Stack) -> None:
    """Good and bad releases in turn, and a kill at a random moment of each: what was in flight is lost at most."""
    chance, end, ended_so = random.Random(20), time.time() + 600, Counter[tuple[str, int]]()
    lost = 0
    while time.time() < end:
        fault, victim = chance.choice([0, 0, 0, 1]), chance.choice(["nobody", "controller", "haproxy", "canary"])
        release, old = stack.plant(slot := stack.idle(), fail=fault), stack.now()["release"][stack.now()["stable"]]
        stack.describe(release, [{"setWeight": 30}, {"pause": {"duration": "2s"}}, ANALYSIS])
        with stack.hammer(clients=32, pause=0.05, most=100_000).running() as hammer:
            with stack.controller(release) as process:
                killed = time.time() + chance.uniform(0.2, 4)
                wait_until(lambda at=killed: time.time() > at, "the moment")  # type: ignore[misc]
                if victim == "controller":
                    process.kill()
                elif victim != "nobody":
                    kill(stack.processes[victim] if victim == "haproxy" else stack.containers[PORTS[slot]])
                if victim == "haproxy":
                    stack.start("haproxy")
                process.wait(90)
            code = stack.command("run", release, check=False).returncode
            if stack.now()["refused"]:
                stack.command("again")
        broken = [answer for answer in failed(hammer) if answer.status in (0, 502, 503)]
        assert len(broken) <= (64 if victim == "haproxy" else 0), (victim, broken[:3])
        assert set(served(hammer)) <= {old, release} | {""}
        assert code == 0 or victim == "canary" or fault, (victim, fault, stack.now())
        lost += len(broken)
        ended_so[victim, code] += 1
    print(f"{ended_so}; {lost} requests were in flight to somebody who was killed")
    assert len(ended_so) >= 6


def test_7_without_prometheus_the_share_never_rises(stack: Stack) -> None:
    """The last test: what a killed Prometheus knew of a canary, it takes for true for five minutes."""
    steps, begun = [{"setWeight": 10}, ANALYSIS, {"setWeight": 90}], time.time()
    with stack.hammer(clients=2).running() as hammer, stack.rollout(steps, deadline=4) as process:
        stack.until(share=1000)
        kill(stack.processes["prometheus"])
        code, told = ended(process)
        assert code == 1 and "undecided after 4 s: Prometheus does not answer at http" in told
        assert {share for _, share in stack.shares(begun)} <= {0, 0.1}
    assert failed(hammer) == []
