#!/usr/bin/env python3
"""The controller of a delivery to plain hosts: moves traffic between two slots by steps, judged by Prometheus.

This file is copied to the balancer, beside layout.py and peers.py; all import the standard library alone (Python 3.9).
What it decides is in rollout.json before anything is done; HAProxy follows the map that is written next. So a
controller that is killed at any moment goes on where it was, and one that stays away loses the share of its release:
HAProxy itself ends that.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import layout, peers
    from .layout import OTHER, PORTS, STATE, Refused
else:  # on a host there is no package
    import layout
    import peers
    from layout import OTHER, PORTS, STATE, Refused

ASKED, HISTORY = STATE / "abort", STATE / "history.jsonl"  # the first is there if a rollout is to be aborted
EXPIRY = 15  # seconds after which the share of a release ends whose controller is away
TICK = 1.0  # seconds between two looks at the verdicts
PATIENCE = 10.0  # seconds that a command waits for HAProxy or for the controller


@dataclass
class Rollout:
    """What a controller has to know after a crash, rollout.json; and what it does next."""

    state: str = "idle"
    stable: str = "blue"
    share: int = 0  # of the other slot, of 10000
    releases: dict[str, str] = field(default_factory=dict)  # by slot, as far as they were seen ready
    candidate: str = ""  # the release that is rolled out
    previous: str = ""  # the release in the other slot, if it was stable before
    refused: str = ""  # the release that was rolled back last
    reason: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    step: int = 0
    since: float = 0.0
    deadline: int = 0
    replicas: int = 1

    @classmethod
    def load(cls) -> Rollout:
        """The state as it was decided last."""

        def taken(content: Any) -> Rollout | None:
            made, usual = cls(**content), vars(cls())
            typed = all(isinstance(value, type(usual[name])) for name, value in vars(made).items())
            steps = all(layout.STEP.fullmatch(json.dumps(each)) for each in made.steps) and made.step <= len(made.steps)
            return made if typed and steps and {made.stable, *made.releases} <= {*PORTS} else None

        path = STATE / "rollout.json"
        return layout.load(path, "it has to be what rollout.py wrote last", taken) if path.exists() else cls()

    def save(self, event: str) -> None:
        """Writes a decision down. After a crash the history may hold it twice, but does not miss it."""
        tracks = {self.stable: "stable", OTHER[self.stable]: "canary" if self.candidate else "idle"}
        targets = [
            {
                "targets": [*layout.containers(slot, self.replicas).values()],
                "labels": {"release": name, "track": tracks[slot]},
            }
            for slot, name in self.releases.items()
        ]
        line = {"time": round(time.time(), 3), "state": self.state, "share": self.share, "event": event}
        layout.add(HISTORY, json.dumps(line))
        layout.put(STATE / "rollout.json", json.dumps(asdict(self), indent=2) + "\n")
        layout.put(STATE / "targets.json", json.dumps(targets, indent=2) + "\n")
        print(event, flush=True)

    def publish(self) -> bool:
        """Writes the map and commits it to HAProxy in one transaction; says whether HAProxy has it."""
        until = int(time.time()) + EXPIRY if self.candidate else 0
        return peers.publish(layout.mapped(self.stable, self.share, until, self.candidate, self.refused))

    def settle(self, limit: float = math.inf) -> None:
        """Waits until HAProxy has what was decided, then ends the rollout."""
        end, waits = time.monotonic() + limit, f"waiting for HAProxy at {peers.SOCKET}\n"
        while not self.publish():
            if time.monotonic() > end:
                raise Refused(f"HAProxy does not answer at {peers.SOCKET}: it will follow when it starts")
            print(waits, end="", flush=True)
            waits = ""
            time.sleep(0.1)
        if self.state in ("promoting", "aborting"):
            self.state = {"promoting": "warm", "aborting": "aborted"}[self.state]
            self.save(f"{self.state}: {self.releases.get(self.stable, 'nobody')} serves all requests")
        ASKED.unlink(missing_ok=True)

    def lacking(self, release: str) -> list[str]:
        """The containers of the other slot that are not ready with a release."""
        return peers.lacking(layout.containers(OTHER[self.stable], self.replicas), release)

    def swap(self, event: str) -> str:
        """Makes the other slot the stable one; gives the event."""
        self.previous = self.releases.get(self.stable, "")
        self.state, self.stable, self.share, self.candidate = "promoting", OTHER[self.stable], 0, ""
        return event

    def enter(self, step: int) -> str:
        """Begins a step, or promotes after the last one; gives the event."""
        self.releases[OTHER[self.stable]] = self.candidate
        self.state, self.step, self.since = "step", step, time.time()
        if step >= len(self.steps):
            return self.swap(f"promoting: {self.candidate}")
        self.share = 100 * self.steps[step].get("setWeight", self.share // 100)
        return f"step {step + 1} of {len(self.steps)}: {json.dumps(self.steps[step])}"

    def back(self, reason: str) -> str:
        """Takes the share away; gives the event."""
        self.state, self.share, self.since, self.reason = "aborting", 0, time.time(), reason
        self.refused, self.candidate, self.previous = self.candidate, "", ""
        return f"aborting: {reason}"

    def advance(self) -> str:
        """Decides what is next; gives the event, or nothing."""
        spent, verdicts = time.time() - self.since, peers.judge(self.candidate)
        lacking = self.lacking(self.candidate)
        if ASKED.exists():
            return self.back("aborted by hand")
        if self.state == "preparing":
            first = self.stable not in self.releases  # nothing to compare with, nobody to protect
            if not lacking and (first or verdicts is not None):
                return self.enter(len(self.steps) if first else 0)
            why = f"not ready after {self.deadline} s: {', '.join(lacking) or peers.worded(verdicts)}"
            return self.back(why) if spent > self.deadline else ""
        step = self.steps[self.step]
        bad = [each for each in verdicts or [] if each["verdict"] < 0]
        good = {each["gate"] for each in verdicts or [] if each["verdict"] > 0}
        if bad or len(lacking) == len(layout.containers("blue", self.replicas)):
            return self.back(peers.worded(bad) if bad else f"no container is ready: {', '.join(lacking)}")
        decided = verdicts is not None and not lacking and ("analysis" not in step or {"errors", "slow"} <= good)
        if decided and spent >= layout.pause(step):
            return self.enter(self.step + 1)
        why = f"undecided after {self.deadline} s: {', '.join(lacking) or peers.worded(verdicts)}"
        return self.back(why) if spent > layout.pause(step) + self.deadline else ""

    def begin(self, release: str) -> None:
        """Begins with a release, unless it serves all requests or ran on since it did."""
        if release == self.releases.get(self.stable):
            return
        if release == self.previous and not self.lacking(release):
            return self.save(self.swap(f"promoting: {release}, which has run on"))
        if release == self.refused:
            raise Refused(f"{release} was rolled back: {self.reason}; release another one, or run `rollout.py again`")
        spec = layout.described()
        layout.containers("blue", 1)  # no server, no rollout
        if release != spec["release"]:
            raise Refused(f"release.json describes {spec['release']}, not {release}")
        self.state, self.candidate, self.previous, self.reason = "preparing", release, "", ""
        self.steps, self.deadline, self.replicas = spec["steps"], spec["deadlineSeconds"], spec["replicas"]
        self.since = time.time()
        self.releases.pop(OTHER[self.stable], None)
        self.save(f"preparing: {release}")


@contextlib.contextmanager
def alone(work: str, patience: float = 0) -> Iterator[Rollout]:
    """Holds the lock of everything that changes the state; waits for it as long as is said."""
    if not STATE.exists():
        raise Refused(f"{STATE} does not exist: deploy first")
    end = time.monotonic() + patience
    with (STATE / "lock").open("a+") as lock:
        lock.seek(0)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Refused(f"`{lock.read()}` is under way: wait for its end, or abort it") from None
                time.sleep(0.02)
        lock.truncate(0)
        lock.write(f"rollout.py {work}")
        lock.flush()
        yield Rollout.load()


def run(release: str, check: bool) -> None:
    """Rolls a release out, or goes on with it."""
    if not release:
        raise Refused("no release is named: `rollout.py run RELEASE`")
    expired, now = int(layout.slots()["until"]) < time.time(), Rollout.load()
    if check:
        sys.exit(release not in (now.releases.get(now.stable), "" if expired else now.candidate))
    with alone(f"run {release}") as rollout:
        if rollout.candidate and (rollout.candidate != release or (expired and rollout.share)):
            rollout.save(rollout.back(f"the controller was away for more than {EXPIRY} s"))
        if not rollout.candidate:
            rollout.settle()
            rollout.begin(release)
        while rollout.candidate:
            rollout.publish()
            event, end = rollout.advance(), time.monotonic() + TICK
            if event:
                rollout.save(event)
            while not event and not ASKED.exists() and time.monotonic() < end:
                time.sleep(0.05)
        rollout.settle()
    if rollout.releases.get(rollout.stable) != release:
        raise Refused(f"{release} was rolled back: {rollout.reason}")


def abort() -> None:
    """Takes the share of a rollout away, by its controller or without one."""
    if not Rollout.load().candidate:
        return print("no rollout is under way")
    layout.put(ASKED, "")
    with alone("abort", PATIENCE) as rollout:
        if rollout.candidate:
            rollout.save(rollout.back("aborted by hand"))
        else:
            print(f"its controller has ended it, {rollout.state}: {rollout.releases.get(rollout.stable)} serves")
        rollout.settle(PATIENCE)


def undo() -> None:
    """Gives all requests back to the release before, which has run on."""
    with alone("undo") as rollout:
        undone, other, before = rollout.releases.get(rollout.stable, ""), OTHER[rollout.stable], rollout.previous
        if not before:
            raise Refused(f"nothing to undo: {other} does not hold a release that has served all requests")
        there = layout.containers(other, rollout.replicas)
        if len(rollout.lacking(before)) == len(there):
            raise Refused(peers.gone(before, other, there))
        event = rollout.swap(f"aborting: {undone} is undone by hand")
        rollout.state, rollout.reason, rollout.refused, rollout.previous = "aborting", "undone by hand", undone, ""
        rollout.save(event)
        rollout.settle(PATIENCE)


def again() -> None:
    """Lets the release be tried again that was rolled back last."""
    with alone("again") as rollout:
        if rollout.candidate:  # its share stays as it is, and ends if its controller stays away
            raise Refused(f"a rollout of {rollout.candidate} is under way: wait for its end, or abort it")
        if not rollout.refused:
            return print("no release was rolled back: there is nothing to try again")
        rollout.refused = ""
        rollout.save("the release that was rolled back may be tried again")
        rollout.settle(PATIENCE)


def status(as_json: bool) -> None:
    """Prints where the rollout is, and the verdicts with the numbers behind them."""
    rollout, served = Rollout.load(), layout.slots()
    told = asdict(rollout)
    told["release"], told["until"] = told.pop("releases"), int(served["until"])
    told["share"] = int(served["share"]) if told["until"] > time.time() else 0
    verdicts = peers.judge(rollout.candidate) if rollout.candidate else []
    expected = "it has to be an event in JSON, as rollout.py writes it; remove this line"
    history = layout.lines(HISTORY, expected, json.loads, grows=True)[-10:] if HISTORY.exists() else []
    told.update(verdicts=verdicts or [], told=peers.worded(verdicts), history=history)
    told.update(haproxy=peers.reached(rollout.stable), described=layout.named())
    texts = [f"{rollout.state}: {rollout.stable} serves {told['release'].get(rollout.stable, 'nothing')}"]
    if rollout.candidate:
        at = f"step {rollout.step + 1} of {len(rollout.steps)}" if rollout.state == "step" else "not ready yet"
        texts += [f"{rollout.candidate}: {told['share'] / 100:g} % of requests, {at}", told["told"]]
    texts += [rollout.reason, *(told["haproxy"]["away"] if rollout.stable in told["release"] else [])]
    print(json.dumps(told) if as_json else "\n".join(filter(None, texts)))


def main() -> int:
    """Runs a command; 1 if it is refused or the release was rolled back, 3 if a controller is to be started again."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    commands: dict[str, Callable[..., None]] = {each.__name__: each for each in (run, status, abort, undo, again)}
    subparsers = parser.add_subparsers(dest="command", required=True)
    parsers = {name: subparsers.add_parser(name, help=each.__doc__) for name, each in commands.items()}
    parsers["run"].add_argument("release")
    parsers["run"].add_argument("--check", action="store_true", help="change nothing; 1 if there is something to do")
    parsers["status"].add_argument("--json", action="store_true", dest="as_json", help="all of it, for a program")
    given = vars(parser.parse_args())
    try:
        commands[given.pop("command")](**given)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        told = error if isinstance(error, OSError) else repr(error)
        print(f"error: {told}: the controller goes on when it is started again", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
