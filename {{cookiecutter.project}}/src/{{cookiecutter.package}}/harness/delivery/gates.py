"""Gates of a rollout: rules of Prometheus that say whether a candidate is good, bad, or not known yet.

The candidate's targets have the label `track: canary`, those of the release in place `track: stable`. All is counted
since a candidate's target is known, for one hour at most, and for both releases alike: an outage of both does not blame
the candidate. Some rules read their own last value: it ends with the candidate's targets, so that a release that is
tried again begins anew.
"""

from ..drift.evidence import LIMIT
from ..monitoring import promql
from ..monitoring.rules import Rule
from ..serving import metrics
from . import wald
from .settings import Gates, Shares

INTERVAL = "1s"  # between evaluations: a candidate that fails is seen with its first scrape
# A candidate is bad if it is for as long as the time between two scrapes: otherwise the outage of both releases that is
# scraped from the candidate first would blame it.
HOLD = "6s"
LONGEST = "1h"
REMEMBERED = "6h"  # what a candidate has counted, if it is tried again
RECENT = "1m"  # in which the candidate's share of the traffic is measured

ROLLOUT = "job, namespace, release"
TARGET = "job, namespace, track, instance"
CANARY, STABLE = 'track="canary"', 'track="stable"'

ERRORS, SLOW, REJECTED, SHIFT, ALIVE = "errors", "slow", "rejected", "shift", "alive"
REQUESTS, BAD, NEEDED, VERDICT = (f"rollout:{name}" for name in ("requests", "bad", "needed", "verdict"))
STABLE_REQUESTS, STABLE_BAD = "rollout:stable_requests", "rollout:stable_bad"
TOLERABLE, INTOLERABLE = "rollout:tolerable", "rollout:intolerable"
RATIO, COMPARED, WORSE = "rollout:likelihood_ratio", "rollout:compared_ratio", "rollout:worse"
NEW_BAD, STABLE_NEW_BAD, TRAFFIC = "rollout:new_bad", "rollout:stable_new_bad", "rollout:traffic"
ROWS, STABLE_ROWS, BOTH_ROWS = "rollout:rows", "rollout:stable_rows", "rollout:both_rows"
EVIDENCE, PSI = "rollout:shift_evidence", "rollout:shift_psi"

_SINCE, _TARGETS, _PAST = "rollout:since", "rollout:targets", "rollout:past"
_DOWN, _BEATS = "rollout:down", "rollout:beats"


def of_rollout(gates: Gates, latency: float) -> list[Rule]:
    """Rules of all gates, in the order in which they are computed.

    Args:
        gates: What is accepted.
        latency: Seconds from which on an answer is slow; a bucket of the latency histogram.
    """
    return [
        *_of_targets(),
        *_of_counts(latency),
        *_of_requests(ERRORS, gates.errors, gates.ratio),
        *_of_requests(SLOW, gates.slow, gates.ratio),
        *_of_requests(REJECTED, gates.errors, gates.ratio),
        *_of_ratio(gates),
        *_of_shift(gates.shift),
        *_of_life(),
    ]


def _of_targets() -> list[Rule]:
    """When a rollout began, and the targets of both releases, with the candidate's label `release`."""
    seen = f"({_SINCE} and on ({ROLLOUT}) up{{{CANARY}}})\nor time() * group by ({ROLLOUT}) (up{{{CANARY}}})"
    # The series of an earlier candidate go on for two scrapes, and for five minutes if Prometheus was killed: the last
    # candidate counts.
    last = f"group by ({ROLLOUT}) ({_SINCE} == on (job, namespace) group_left () max by (job, namespace) ({_SINCE}))"
    candidate = f"max by ({TARGET}, release) (up{{{CANARY}}} == 1)"
    stable = f"max by ({TARGET}) (up{{{STABLE}}} == 1)"
    return [
        Rule(_SINCE, seen),
        Rule(
            _TARGETS,
            f"({candidate} and on ({ROLLOUT}) {last})\nor {stable} * on (job, namespace) group_left (release) {last}",
        ),
        Rule(_PAST, f"group by ({TARGET}, release) (up{{{CANARY}}} unless on ({ROLLOUT}) {last})"),
    ]


def _of_counts(latency: float) -> list[Rule]:
    """Counters of each target, and what they were when the rollout began."""
    asked = _total(f"{promql.REQUESTS}{{{promql.ASKED}}}")
    good = _total(f"{promql.REQUESTS}{{{promql.ASKED},{promql.GOOD}}}")
    accepted = _total(f"{promql.REQUESTS}{{{promql.ASKED},{promql.ACCEPTED}}}")
    shed = _total(f"{metrics.REFUSED}{{{promql.SHED}}}")
    answered = _total(f"{promql.DURATION}_count{{{promql.FAST}}}")
    fast = _total(f'{promql.DURATION}_bucket{{{promql.FAST},le="{latency}"}}')
    total, bad = "rollout:total_requests", "rollout:total_bad"
    ours, theirs = (f"increase({name}[{RECENT}])" for name in (REQUESTS, STABLE_REQUESTS))
    # Bins of numbers are deciles of each version's own test split: their numbers are compared, not their ends.
    bins = f'label_replace({metrics.ROWS}{{kind="answer"}}, "bin", "$1", "bin", "([0-9]{{2}}) .*")'
    return [
        Rule(total, f"{asked}\n+ {shed}", {"gate": ERRORS}),
        Rule(bad, f'{total}{{gate="{ERRORS}"}}\n- ignoring (gate) {good}', {"gate": ERRORS}),
        Rule(total, answered, {"gate": SLOW}),
        Rule(bad, f'{total}{{gate="{SLOW}"}}\n- ignoring (gate) {fast}', {"gate": SLOW}),
        Rule(total, asked, {"gate": REJECTED}),
        Rule(bad, f'{total}{{gate="{REJECTED}"}}\n- ignoring (gate) {accepted}', {"gate": REJECTED}),
        Rule("rollout:total_rows", _of_candidate(bins, "bin")),
        *(_start(counted) for counted in ("requests", "bad", "rows")),
        Rule(REQUESTS, f"sum by (gate, {ROLLOUT}) ({_counted('requests', CANARY)})"),
        Rule(BAD, f"sum by (gate, {ROLLOUT}) ({_counted('bad', CANARY)})"),
        Rule(STABLE_REQUESTS, f"sum by (gate, {ROLLOUT}) ({_counted('requests', STABLE)})\nor 0 * {REQUESTS}"),
        Rule(STABLE_BAD, f"sum by (gate, {ROLLOUT}) ({_counted('bad', STABLE)})\nor 0 * {REQUESTS}"),
        Rule(NEW_BAD, _new(CANARY)),
        Rule(STABLE_NEW_BAD, f"{_new(STABLE)}\nor 0 * {REQUESTS}"),
        Rule(TRAFFIC, f"{ours} / ({ours} + {theirs} > 0)\nor 0 * {REQUESTS} + 1"),
        Rule("rollout:counted_rows", f"sum by ({ROLLOUT}, bin) ({_counted('rows', CANARY)})", {"track": "canary"}),
        Rule("rollout:counted_rows", f"sum by ({ROLLOUT}, bin) ({_counted('rows', STABLE)})", {"track": "stable"}),
    ]


def _of_candidate(counter: str, *labels: str) -> str:
    """A counter of each target, with the candidate's label `release`."""
    by = ", ".join((TARGET, *labels))
    now = f"{counter} unless on ({TARGET}, release) {_PAST}"
    return f"sum by ({by}) ({now})\n* on ({TARGET}) group_left (release) {_TARGETS}"


def _total(counter: str) -> str:
    """The same, and 0 for a target that has not counted yet."""
    return f"(\n  {_of_candidate(counter)}\n  or 0 * {_TARGETS}\n)"


def _start(counted: str) -> Rule:
    """What a counter was when the rollout began, or an hour ago.

    Those of a candidate began at 0, unless it is tried again and has not been started again.
    """
    name, total = f"rollout:start_{counted}", f"rollout:total_{counted}"
    before = f"last_over_time({total}{{{CANARY}}}[{REMEMBERED}] offset {INTERVAL}) <= {total}{{{CANARY}}}"
    return Rule(
        name,
        f"({total} offset {LONGEST} and on ({ROLLOUT}) time() - {_SINCE} > 3600)\n"
        f"or ({name} and on ({ROLLOUT}) {_SINCE})\n"
        f"or {total}{{{STABLE}}}\nor {before}\nor 0 * {total}",
    )


def _counted(counted: str, track: str) -> str:
    """What was counted since then; all of it where a counter began anew."""
    total, start = (f"rollout:{name}_{counted}{{{track}}}" for name in ("total", "start"))
    return f"{total} - {start} >= 0 or {total}"


def _new(track: str) -> str:
    """Bad requests since the last evaluation."""
    total, start = (f"rollout:{name}_bad{{{track}}}" for name in ("total", "start"))
    return f"sum by (gate, {ROLLOUT}) (clamp_min({total} - ({total} offset {INTERVAL} or {start}), 0))"


def _of_requests(gate: str, shares: Shares, ratio: float) -> list[Rule]:
    """Shares that a sequential test tells apart, relative to the stable release."""
    bad, requests, tolerable = (f'{name}{{gate="{gate}"}}' for name in (STABLE_BAD, STABLE_REQUESTS, TOLERABLE))
    prior = wald.PRIOR
    share = f"({bad} + {prior * shares.tolerable:g}) / ({requests} + {prior})"
    return [
        Rule(TOLERABLE, f"clamp_min({share}, {shares.tolerable:g})", {"gate": gate}),
        Rule(
            INTOLERABLE,
            f"clamp_min(\n  ({ratio:g} * {tolerable} < (1 + {tolerable}) / 2) or (1 + {tolerable}) / 2,\n"
            f"  {shares.intolerable:g}\n)",
            {"gate": gate},
        ),
    ]


def _of_ratio(gates: Gates) -> list[Rule]:
    """The sequential test of requests: its state, its verdict, and how many requests more a good release needs."""
    good, bad = wald.bounds(gates)
    times = f"({INTOLERABLE} / {TOLERABLE})"
    step = f"ln((1 - {INTOLERABLE}) / (1 - {TOLERABLE}))"
    return [
        Rule(RATIO, f"{BAD} * ln({INTOLERABLE} / {TOLERABLE})\n+ ({REQUESTS} - {BAD}) * {step}"),
        Rule(
            COMPARED,
            f"clamp_min(\n  ({COMPARED} or 0 * {RATIO})\n  + {NEW_BAD} * ln({times})\n"
            f"  - ({NEW_BAD} + {STABLE_NEW_BAD}) * ln(1 + ({times} - 1) * {TRAFFIC}),\n  {good:.9g}\n)",
        ),
        Rule(
            WORSE,
            f"({RATIO} >= bool {bad:.9g})\n"
            f"* clamp_max(({COMPARED} >= bool {bad:.9g}) + ({TRAFFIC} > bool {wald.ALONE}), 1)",
        ),
        Rule(VERDICT, f"({RATIO} <= bool {good:.9g})\n- min_over_time({WORSE}[{HOLD}])"),
        Rule(NEEDED, f"ceil(clamp_min(({good:.9g} - {RATIO}) / {step}, 0))\n* (1 - {WORSE})"),
    ]


def _of_shift(margin: float) -> list[Rule]:
    """Answers of both releases, compared as drift is; a request counts as one answer, however many rows it had.

    Requests are split between the releases at random, rows of one request are not.
    """
    rows, stable = (
        f"sum by ({ROLLOUT}, bin) ({counted})\n* on ({ROLLOUT}) group_left ()\n"
        f'clamp_max({requests}{{gate="{SLOW}"}} / on ({ROLLOUT}) (sum by ({ROLLOUT}) ({counted}) > 0), 1)'
        for counted, requests in (
            (f"rollout:counted_rows{{{CANARY}}}", REQUESTS),
            (f"rollout:counted_rows{{{STABLE}}}", STABLE_REQUESTS),
        )
    )
    # Versions of other classes, or with fewer deciles, answer otherwise by design.
    same = " and ".join(
        f"count by ({ROLLOUT}) ({BOTH_ROWS}) == count by ({ROLLOUT}) ({name})" for name in (ROWS, STABLE_ROWS)
    )
    shifted = f"({EVIDENCE} > bool {LIMIT:g}) * ({PSI} > bool {margin:g})"
    return [
        Rule(ROWS, rows),
        Rule(STABLE_ROWS, stable),
        Rule(BOTH_ROWS, f"{ROWS} + {STABLE_ROWS}"),
        Rule(EVIDENCE, promql.evidence(ROWS, STABLE_ROWS, BOTH_ROWS)),
        Rule(PSI, promql.psi(ROWS, STABLE_ROWS)),
        Rule(VERDICT, f"(1 - 2 * {shifted}\n  and on ({ROLLOUT}) ({same}))\nor 0 * {_SINCE}", {"gate": SHIFT}),
    ]


def _of_life() -> list[Rule]:
    """Whether the candidate answers each scrape, and never starts again: its counters, health checks too, tell that."""
    beats = f"(\n  sum by ({TARGET}, release) ({promql.REQUESTS}{{{CANARY}}})\n  or 0 * {_TARGETS}{{{CANARY}}}\n)"
    return [
        Rule(
            _DOWN,
            f"({_DOWN} and on ({ROLLOUT}) {_SINCE})\n"
            f"or group by ({ROLLOUT}) (up{{{CANARY}}} == 0 and on ({TARGET}, release) {_BEATS})\n"
            f"or group by ({ROLLOUT}) ({beats} < {_BEATS})",
        ),
        Rule(_BEATS, beats),
        Rule(VERDICT, f"-{_DOWN}\nor group by ({ROLLOUT}) ({_BEATS})\nor 0 * {_SINCE}", {"gate": ALIVE}),
    ]
