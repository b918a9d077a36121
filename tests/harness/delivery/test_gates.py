"""Gates of a rollout, in the real promtool: a scrape each five seconds."""

import itertools
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import watching
import yaml
from my_experiment.harness.delivery import gates, wald, write
from my_experiment.harness.delivery.settings import Gates, delivery
from my_experiment.harness.monitoring import promql
from my_experiment.harness.monitoring.settings import monitoring
from my_experiment.harness.serving import metrics
from support import ROOT

SCRAPE = 5  # seconds
LATENCY = yaml.safe_load((ROOT / "conf/monitoring.yaml").read_text(encoding="utf-8"))["monitoring"]["latency"]
CANARY, STABLE = "canary", "stable"
RELEASES = {CANARY: "000000000002", STABLE: "000000000001"}
EARLIER = "000000000003"  # a candidate of before
Counter = Sequence[int | None]  # its value at each scrape; None: there was none
Series = dict[str, Counter]
Told = dict[str, dict[str, float]]  # name of a series -> gate -> value


def rising(*parts: tuple[int, float], start: int = 0) -> list[int]:
    """A counter that rises for some scrapes by so much each."""
    steps = (step for scrapes, step in parts for _ in range(scrapes))
    return [int(value) for value in itertools.accumulate(steps, initial=start)]


def minutes(*parts: tuple[float, float], start: int = 0) -> list[int]:
    """A counter that rises for some minutes by so much each scrape."""
    return rising(*((round(long * 60 / SCRAPE), step) for long, step in parts), start=start)


def target(
    track: str,
    asked: Counter,
    *,
    bad: Counter = (),
    slow: Counter = (),
    rejected: Counter = (),
    shed: Counter = (),
    rows: Mapping[str, Counter] | None = None,
    up: Counter = (),
    instance: str = "",
    release: str = "",
    first: int = 0,
) -> Series:
    """What is scraped of a target.

    Args:
        track: Its label `track`, which tells the candidate from the stable release.
        asked: Requests that it answered.
        bad: How many of these with 500.
        slow: How many of these late.
        rejected: How many of these with 400.
        shed: Requests that it refused.
        rows: Rows of its answers by bin.
        up: Whether it answered the scrape.
        instance: Its label.
        release: Its label, if it is not that of all cases.
        first: Scrapes until it is known.
    """
    found: Series = {}

    def add(name: str, values: Counter, **labels: str) -> None:
        told = {"instance": instance or track, "release": release or RELEASES[track], "track": track, **labels}
        text = ",".join(f'{key}="{value}"' for key, value in told.items())
        found[f"{name}{{{text}}}"] = [*[None] * first, *values]

    def less(*counters: Counter) -> Counter:
        left = asked
        for taken in filter(None, counters):
            left = [None if a is None or b is None else a - b for a, b in zip(left, taken, strict=True)]
        return left

    path, fine = {"endpoint": "/predict"}, {"http_response_code": "200"}
    add("up", up or [1] * len(asked))
    add(promql.REQUESTS, less(bad, rejected), **path, **fine)
    # A status that never came has no series.
    add(promql.REQUESTS, [value or None for value in bad], **path, http_response_code="500")
    add(promql.REQUESTS, [value or None for value in rejected], **path, http_response_code="400")
    beats = [None if value is None else count for count, value in enumerate(asked)]
    add(promql.REQUESTS, beats, endpoint="/readyz", **fine)
    add(f"{promql.DURATION}_count", asked, **path, **fine)
    add(f"{promql.DURATION}_bucket", less(slow), **path, **fine, le=str(LATENCY))
    add(metrics.REFUSED, shed, reason="busy")
    add(metrics.REFUSED, asked, reason="path")
    for name, counted in (rows or {}).items():
        add(metrics.ROWS, counted, kind="answer", column="answer", bin=name)
    return found


def _written(values: Counter) -> Iterator[str]:
    """Values as promtool reads them; what is no longer scraped ends at once."""
    for last, value in itertools.pairwise([None, *values]):
        yield str(value) if value is not None else "_" if last is None else "stale"


def evaluate(
    program: Path, folder: Path, cases: Mapping[str, Iterable[Series]], times: Iterable[int], interval: int = SCRAPE
) -> dict[tuple[str, int], Told]:
    """The verdicts of the configured gates at some seconds of each case; each case is a job in Prometheus."""
    rules = write.content(delivery(), monitoring())["spec"]
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    series = [
        {
            "series": key.replace("{", f'{{job="{name}",'),
            "values": " ".join(_written(values)),
        }
        for name, targets in cases.items()
        for each in targets
        for key, values in each.items()
        if any(value is not None for value in values)
    ]
    asked = [{"expr": '{__name__=~"rollout:.*"}', "eval_time": f"{seconds}s"} for seconds in times]
    test = {"interval": f"{SCRAPE}s", "input_series": series, "promql_expr_test": asked}
    content = {"rule_files": ["rules.yml"], "evaluation_interval": f"{interval}s", "tests": [test]}
    (folder / "test.yml").write_text(yaml.safe_dump(content))
    # No samples are expected, so that it tells all that it got.
    command = (program, "test", "rules", "test.yml")
    done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
    got = re.findall(r"got: (.*)", done.stdout + done.stderr)
    assert len(got) == len(asked), done.stderr[-2000:]
    found: dict[tuple[str, int], Told] = {(name, seconds): {} for name in cases for seconds in times}
    for seconds, line in zip(times, got, strict=True):
        for name, labels, value in re.findall(r'\{__name__="rollout:(\w+)"([^}]*)\} ([-+.\dEINaf]+)', line):
            told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if told["release"] == EARLIER:
                continue
            assert told["release"] == RELEASES[CANARY]
            found[told["job"], seconds].setdefault(name, {})[told.get("gate", "")] = float(value)
    return found


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        found = shutil.which("promtool")
        return Path(found) if found else watching.tools(tmp_path_factory.mktemp("prometheus")) / "promtool"
    except SystemExit as missing:
        pytest.skip(str(missing))


@pytest.fixture
def policy(workspace: Path) -> Gates:
    return delivery().gates


def verdicts(
    *, errors: int | None = 1, slow: int | None = 1, rejected: int | None = None, shift: int = 0, alive: int = 1
) -> dict[str, int]:
    told = {"errors": errors, "slow": slow, "rejected": rejected, "shift": shift, "alive": alive}
    return {gate: verdict for gate, verdict in told.items() if verdict is not None}


def classes(*counters: Counter) -> dict[str, Counter]:
    return dict(zip("abcdefgh", counters, strict=False))


# Requests of both releases between two scrapes: 20 a second, a tenth of them to the candidate.
MOST, FEW = 90, 10
HALF = (minutes((5, 45)), minutes((5, 45)))  # rows of two classes of equal share
WELL = target(STABLE, minutes((5, MOST), start=70_000), rows=classes(*HALF))
JOINT = [target(STABLE, minutes((2, MOST), (1, MOST)), bad=minutes((2, 0), (1, MOST)))]
BATCHES = rising(*[(5, 0), (1, 16)] * 10)  # sixteen rows a request, all alike
CASES: dict[str, tuple[list[Series], dict[int, dict[str, int]]]] = {
    "good": (
        [WELL, target(CANARY, minutes((5, FEW)), rows=classes(minutes((5, 5)), minutes((5, 5))))],
        {
            60: verdicts(errors=0, shift=1),
            250: verdicts(errors=0, shift=1),
            260: verdicts(shift=1),
            300: verdicts(shift=1),
        },
    ),
    "fails always": (
        [WELL, target(CANARY, minutes((1, FEW)), bad=minutes((1, FEW)))],
        {5: verdicts(errors=0, slow=0), 10: verdicts(errors=-1, slow=0), 60: verdicts(errors=-1)},
    ),
    "a request of twenty fails": (
        [WELL, target(CANARY, minutes((2, FEW)), bad=rising(*[(1, 0), (1, 1)] * 12))],
        {20: verdicts(errors=0, slow=0), 60: verdicts(errors=-1)},
    ),
    "refuses": ([WELL, target(CANARY, minutes((1, FEW)), shed=minutes((1, 1)))], {60: verdicts(errors=-1)}),
    "takes no request as it should be": (
        [WELL, target(CANARY, minutes((5, FEW)), rejected=minutes((5, FEW)))],
        {60: verdicts(errors=0, rejected=-1), 300: verdicts(rejected=-1)},
    ),
    "both are asked wrongly": (
        [
            target(STABLE, minutes((5, MOST)), rejected=minutes((5, 45))),
            target(CANARY, minutes((5, FEW)), rejected=minutes((5, 5))),
        ],
        {60: verdicts(errors=0, rejected=1), 300: verdicts(rejected=1)},
    ),
    "fails only later": (
        [WELL, target(CANARY, minutes((3, 100), (1, 100)), bad=minutes((3, 0), (1, 50)))],
        {180: verdicts(), 195: verdicts(errors=-1)},
    ),
    "one request of a thousand fails": (
        [WELL, target(CANARY, minutes((5, 100)), bad=rising((12, 0), (1, 1), (24, 0), (1, 1), (22, 0)))],
        {300: verdicts()},
    ),
    "slow": ([WELL, target(CANARY, minutes((1, FEW)), slow=minutes((1, 2)))], {60: verdicts(errors=0, slow=-1)}),
    "nobody asks it": ([WELL, target(CANARY, minutes((5, 0)))], {300: verdicts(errors=0, slow=0)}),
    "too few ask it": ([WELL, target(CANARY, minutes((5, 1)))], {300: verdicts(errors=0, slow=0)}),
    "not scraped yet": ([WELL], {60: {}}),
    "never answers": (
        [WELL, target(CANARY, [None] * 61, up=[0] * 61)],
        {300: verdicts(errors=None, slow=None, alive=0)},
    ),
    "one answer alone": (
        [WELL, target(CANARY, minutes((2, FEW)), rows=classes(minutes((2, FEW)), minutes((2, 0))))],
        {60: verdicts(errors=0, shift=-1)},
    ),
    "batches of like rows": (
        [WELL, target(CANARY, rising(*[(5, 0), (1, 1)] * 10), rows=classes(BATCHES, [0] * len(BATCHES)))],
        {30: verdicts(errors=0, slow=0, shift=1), 180: verdicts(errors=0, slow=0, shift=1)},
    ),
    "a little other answers": (
        [WELL, target(CANARY, minutes((5, 100)), rows=classes(minutes((5, 43)), minutes((5, 57))))],
        {300: verdicts(shift=1)},
    ),
    "other classes": (
        [WELL, target(CANARY, minutes((5, FEW)), rows=classes(minutes((5, 5)), minutes((5, 5)), minutes((5, 0))))],
        {300: verdicts()},
    ),
    "numbers in deciles of their own": (
        [
            target(STABLE, minutes((5, MOST)), rows={"00 up to 1": HALF[0], "01 above 1": HALF[1]}),
            target(CANARY, minutes((5, FEW)), rows={"00 up to 9": minutes((5, 10)), "01 above 9": minutes((5, 0))}),
        ],
        {60: verdicts(errors=0, shift=-1)},
    ),
    "both fail as often": (
        [
            target(STABLE, minutes((5, MOST)), bad=minutes((5, 9))),
            target(CANARY, minutes((5, 50)), bad=minutes((5, 5))),
        ],
        {15: verdicts(errors=0), 300: verdicts()},
    ),
    "both fail, the candidate much more": (
        [
            target(STABLE, minutes((5, MOST)), bad=minutes((5, 9))),
            target(CANARY, minutes((5, FEW)), bad=minutes((5, 4))),
        ],
        {120: verdicts(errors=-1)},
    ),
    "the stable one failed long ago": (
        [
            target(STABLE, minutes((2, MOST), (3, MOST)), bad=minutes((2, MOST), (3, 0))),
            target(CANARY, minutes((3, FEW)), bad=minutes((3, 1)), first=24),
        ],
        {240: verdicts(errors=-1)},
    ),
    "the stable one fails always": (
        [target(STABLE, minutes((5, MOST)), bad=minutes((5, MOST))), target(CANARY, minutes((5, FEW)))],
        {15: verdicts(slow=0), 300: verdicts()},
    ),
    "both fail after the candidate got more": (
        [
            target(STABLE, minutes((2, MOST), (3, 50)), bad=minutes((3, 0), (1, 25), (1, 0))),
            target(CANARY, minutes((2, FEW), (3, 50)), bad=minutes((3, 0), (1, 25), (1, 0))),
        ],
        {185: verdicts(errors=0), 240: verdicts(errors=0), 300: verdicts(errors=0)},
    ),
    "all at once, after some requests": (
        [target(STABLE, minutes((1, 20), (4, 0))), target(CANARY, minutes((1, 0), (4, 20)))],
        {300: verdicts()},
    ),
    "all at once, and one of twenty fails": (
        [
            target(STABLE, minutes((1, 20), (4, 0))),
            target(CANARY, minutes((1, 0), (4, 20)), bad=minutes((1, 0), (4, 1))),
        ],
        {140: verdicts(errors=-1)},
    ),
    "no stable one": ([target(CANARY, minutes((5, FEW)))], {300: verdicts()}),
    "no stable one, and it fails": (
        [target(CANARY, minutes((1, FEW)), bad=minutes((1, 1)))],
        {60: verdicts(errors=-1)},
    ),
    "the stable one goes down": (
        [
            target(STABLE, [*minutes((2, MOST)), *[None] * 36], up=[*[1] * 25, *[0] * 36]),
            target(CANARY, minutes((5, FEW))),
        ],
        {300: verdicts()},
    ),
    "the stable one starts again": (
        [target(STABLE, [*minutes((2, MOST)), *minutes((3, MOST))[1:]]), target(CANARY, minutes((5, FEW)))],
        {300: verdicts()},
    ),
    "restarts unseen": (
        [WELL, target(CANARY, [*minutes((2, FEW)), *minutes((3, FEW))[1:]])],
        {120: verdicts(errors=0), 125: verdicts(errors=0, slow=0, alive=-1), 300: verdicts(errors=0, alive=-1)},
    ),
    "one of two goes down for a scrape": (
        [
            WELL,
            target(CANARY, minutes((5, FEW)), instance="a"),
            target(
                CANARY,
                [*minutes((2, FEW)), None, *minutes((3, FEW), start=250)[2:]],
                up=[*[1] * 25, 0, *[1] * 35],
                instance="b",
            ),
        ],
        {120: verdicts(errors=0), 125: verdicts(errors=0, alive=-1), 300: verdicts(alive=-1)},
    ),
    "tried again, and was not started again": (
        [WELL, target(CANARY, [*rising((12, FEW)), *[None] * 12, *minutes((4, FEW), start=130)],
            bad=[*rising((12, FEW)), *[None] * 12, *minutes((4, 0), start=120)],
            up=[*[1] * 13, *[None] * 12, *[1] * 49])],
        {60: verdicts(errors=-1), 110: {}, 140: verdicts(errors=0, slow=0), 300: verdicts(errors=0)},
    ),
    "tried again after it was aborted": (
        [WELL, target(CANARY, [*rising((12, FEW)), *[None] * 12, *minutes((4, FEW))],
            bad=[*rising((12, FEW)), *[None] * 12, *minutes((4, 0))],
            up=[*[1] * 13, *[None] * 12, *[1] * 49])],
        {60: verdicts(errors=-1), 110: {}, 140: verdicts(errors=0, slow=0), 300: verdicts(errors=0)},
    ),
    "another one of before ran there, and its series have not ended": (
        [WELL, target(CANARY, [*rising((12, FEW)), *[120] * 48], bad=[*rising((12, FEW)), *[120] * 48],
            rows=classes([*rising((12, FEW)), *[120] * 48], [0] * 61), release=EARLIER),
         target(CANARY, minutes((4, FEW)), rows=classes(minutes((4, 5)), minutes((4, 5))), first=13)],
        {60: {}, 80: verdicts(errors=0, slow=0, shift=1), 300: verdicts(errors=0, shift=1)},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def told(promtool: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Told]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        times = sorted({seconds for _, wanted in CASES.values() for seconds in wanted})
        cases = {name: targets for name, (targets, _) in CASES.items()}
        return evaluate(promtool, tmp_path_factory.mktemp("gates"), cases, times)


@pytest.mark.parametrize("name", CASES)
def test_verdicts(told: dict[tuple[str, int], Told], name: str) -> None:
    """Case 15 of the design."""
    for seconds, wanted in CASES[name][1].items():
        found = told[name, seconds].get("verdict", {})
        found = {gate: verdict for gate, verdict in found.items() if gate != "rejected" or gate in wanted}
        assert found == wanted, f"after {seconds} s: {told[name, seconds]}"


def test_an_outage_of_both_is_not_the_candidates_which_is_scraped_first(
    workspace: Path, promtool: Path, policy: Gates
) -> None:
    early = target(CANARY, minutes((2, FEW), (1, FEW)), bad=minutes((2, 0), (1, FEW)))
    late = target(STABLE, minutes((2, MOST), (13 / 12, MOST)), bad=minutes((2 + 1 / 12, 0), (1, MOST)))
    alone = target(STABLE, minutes((3, MOST)))
    seconds = range(120, 150)
    told = evaluate(promtool, workspace, {"both": [late, early], "alone": [alone, early]}, seconds, 1)
    assert all(told["both", second]["verdict"]["errors"] >= 0 for second in seconds)
    bad = [second for second in seconds if told["alone", second]["verdict"]["errors"] == -1]
    assert bad[0] == 125 + 6 and bad[-1] == 149


def test_formulas_in_promql_are_those_of_python(workspace: Path, promtool: Path, policy: Gates) -> None:
    rng = np.random.default_rng(0)
    drawn = {}
    for number in range(40):
        requests, stable = (int(10 ** rng.uniform(0, 4)) for _ in range(2))
        bad, broken = (int(count * rng.choice([0, 0.001, 0.01, 0.1, 0.5, 1])) for count in (requests, stable))
        drawn[str(number)] = requests, bad, stable, broken
    cases = {}
    for name, (requests, bad, stable, broken) in drawn.items():
        old = target(STABLE, [0, stable], bad=[0, broken], slow=[0, broken])
        cases[name] = [old, target(CANARY, [0, requests], bad=[0, bad], slow=[0, bad])]
    told = evaluate(promtool, workspace, cases, [5])
    good, worst = wald.bounds(policy)
    seen = set()
    for name, (requests, bad, stable, broken) in drawn.items():
        for gate, shares in (("errors", policy.errors), ("slow", policy.slow)):
            got = {key: values[gate] for key, values in told[name, 5].items() if gate in values}
            p0 = wald.tolerable(shares, stable, broken)
            p1 = wald.intolerable(shares, policy.ratio, p0)
            ratio = wald.likelihood_ratio(requests, bad, p0, p1)
            assert (got["requests"], got["bad"]) == (requests, bad)
            assert (got["stable_requests"], got["stable_bad"]) == (stable, broken)
            assert (got["tolerable"], got["intolerable"]) == pytest.approx((p0, p1))
            assert got["likelihood_ratio"] == pytest.approx(ratio)
            traffic = requests / (requests + stable)
            assert got["compared_ratio"] == pytest.approx(wald.compared(0, bad, broken, traffic, p1 / p0, good))
            assert got["needed"] == (wald.needed(ratio, good, p0, p1) if good < ratio < worst else 0)
            # It was not bad at the scrape before.
            assert got["verdict"] == (ratio <= good)
            seen.add((bool(ratio <= good), bool(ratio >= worst)))
    assert seen == {(False, False), (True, False), (False, True)}


def test_an_hour_at_most_is_counted(workspace: Path, promtool: Path) -> None:
    long = minutes((90, MOST)), minutes((90, FEW))
    told = evaluate(promtool, workspace, {"long": [target(STABLE, long[0]), target(CANARY, long[1])]}, [3600, 5400], 60)
    for seconds in (3600, 5400):
        assert told["long", seconds]["requests"]["errors"] == pytest.approx(720 * FEW, rel=0.01)
        assert told["long", seconds]["stable_requests"]["errors"] == pytest.approx(720 * MOST, rel=0.01)


def test_the_file_is_a_rule_of_prometheus_operator_and_its_spec_a_file_of_rules(
    workspace: Path, promtool: Path
) -> None:
    content = yaml.safe_load(write.text())
    assert (content["apiVersion"], content["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    (workspace / "rules.yml").write_text(yaml.safe_dump(content["spec"]))
    done = subprocess.run([promtool, "check", "rules", "rules.yml"], cwd=workspace, check=True, capture_output=True)
    assert b"SUCCESS" in done.stdout
    names = {rule["record"] for group in content["spec"]["groups"] for rule in group["rules"]}
    assert {gates.REQUESTS, gates.BAD, gates.NEEDED, gates.VERDICT} <= names
    drawn = re.findall(r"rollout:\w+", (ROOT / "monitoring/dashboard.json").read_text(encoding="utf-8"))
    assert {gates.VERDICT, gates.RATIO} <= {*drawn} <= names
