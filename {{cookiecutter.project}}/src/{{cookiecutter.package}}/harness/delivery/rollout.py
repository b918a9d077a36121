#!/usr/bin/env python3
"""The controller of a delivery to plain hosts: moves traffic between two slots by steps, judged by Prometheus.

This file is copied to the balancer, and imports the standard library alone (Python 3.9). What it decides is in
rollout.json before anything is done; HAProxy follows the map that is written next. So a controller that is killed at
any moment goes on where it was, and one that stays away loses the share of its release: HAProxy itself ends that.

ROLLOUT_ROOT is put before /etc, /var/lib and /run; ROLLOUT_PROMETHEUS is the address of Prometheus.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import math
import os
import re
import socket
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

ROOT = os.environ.get("ROLLOUT_ROOT", "")
ETC, STATE, SOCKET = Path(f"{ROOT}/etc/model"), Path(f"{ROOT}/var/lib/model"), f"{ROOT}/run/haproxy/admin.sock"
MAP, ASKED = STATE / "slots.map", STATE / "abort"  # what HAProxy follows; there if a rollout is to be aborted
PROMETHEUS = os.environ.get("ROLLOUT_PROMETHEUS", "http://127.0.0.1:9090")
PORTS, OTHER = {"blue": 3100, "green": 3200}, {"blue": "green", "green": "blue"}
EXPIRY = 15  # seconds after which the share of a release ends whose controller is away
TICK = 1.0  # seconds between two looks at the verdicts
PATIENCE = 10.0  # seconds that a command waits for HAProxy or for the controller
WAITS = r'"pause": {"duration": "(?P<number>\d+)(?P<unit>[smh])"}'
STEP = re.compile(f'{{("setWeight": (\\d\\d?|100)|{WAITS}|"analysis": {{[^}}]+}}[^}}]+}})}}')  # as JSON
T = TypeVar("T")
NUMBERS = ("verdict", "requests", "bad", "needed")


class Refused(Exception):
    """A reason, in one line, for which a command does not do what it was asked for."""


def load(path: Path, expected: str, taken: Callable[[Any], T | None]) -> T:
    """What is taken from a JSON file, which a person may have changed."""
    with contextlib.suppress(FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        if (found := taken(json.loads(path.read_text()))) is not None:
            return found
    raise Refused(f"{path} is missing or wrong: {expected}")


def containers(slot: str, replicas: int) -> dict[str, str]:
    """Names and addresses of the containers of a slot, on all servers."""

    def taken(content: Any) -> dict[str, str] | None:
        hosts, numbers = content["all"]["children"]["servers"]["hosts"].items(), range(1, replicas + 1)
        return {f"{name}-{n}": f"{at['address']:s}:{PORTS[slot] + n}" for name, at in hosts for n in numbers} or None

    return load(ETC / "hosts.json", "all.children.servers.hosts has to name servers, each with an address", taken)


def get(url: str) -> tuple[str, str]:
    """Header x-release and body of an answer 200; both are empty without one."""
    with contextlib.suppress(OSError, ValueError, HTTPException), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.headers.get("x-release", ""), answer.read().decode()
    return "", ""


def write(path: Path, text: str) -> None:
    """Puts a file in place at once and durably."""
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def haproxy(command: str) -> str:
    """What HAProxy answers to a command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(SOCKET)
        connection.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode().strip()


def slots() -> dict[str, str]:
    """The map that HAProxy follows."""
    return dict(line.split(" ", 1) for line in MAP.read_text().splitlines()) if MAP.exists() else {}


def judge(release: str) -> list[dict[str, Any]] | None:
    """The verdicts on a release, with the numbers behind them; None if Prometheus does not answer."""
    selector = f'__name__=~"rollout:({"|".join(NUMBERS)})",release="{release}"'
    _, body = get(f"{PROMETHEUS}/api/v1/query?query={urllib.parse.quote('{' + selector + '}')}")
    gates: dict[str, dict[str, Any]] = {}
    for series in json.loads(body)["data"]["result"] if body else []:
        gate, value = series["metric"]["gate"], float(series["value"][1])
        numbers = gates.setdefault(gate, {"gate": gate, **dict.fromkeys(NUMBERS, 0)})
        numbers[series["metric"]["__name__"].split(":")[1]] = round(value) if math.isfinite(value) else 0
    return [gates[gate] for gate in sorted(gates)] if body else None


def worded(verdicts: list[dict[str, Any]] | None) -> str:
    """Verdicts for a person."""
    if verdicts is None:
        return f"Prometheus does not answer at {PROMETHEUS}"
    texts = []
    for each in verdicts:
        lacks = f" of {each['requests'] + each['needed']} requests needed" if each["needed"] > 0 else " requests"
        numbers = f": {each['requests']}{lacks}, {each['bad']} bad" if each["requests"] or each["needed"] else ""
        texts.append(each["gate"] + {1: " good", 0: " undecided", -1: " bad"}[each["verdict"]] + numbers)
    return "; ".join(texts) or "no verdicts"


def pause(step: dict[str, Any]) -> int:
    """How many seconds a step takes at least."""
    match = STEP.fullmatch(json.dumps(step))
    if match is None:
        raise Refused(f"{json.dumps(step)} in release.json is none of the steps setWeight, pause and analysis")
    return int(match["number"] or 0) * {"s": 1, "m": 60, "h": 3600}[match["unit"] or "s"]


def described(content: Any) -> dict[str, Any] | None:
    """The release that is described, if all of it can be done."""
    spec: dict[str, Any] = content["spec"]
    kinds = {"release": str, "steps": list, "replicas": int, "deadlineSeconds": int}
    fits = all(type(spec[name]) is kind for name, kind in kinds.items()) and spec["replicas"] > 0
    return spec if fits and all(pause(step) >= 0 for step in spec["steps"]) else None


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
            steps = all(STEP.fullmatch(json.dumps(each)) for each in made.steps) and made.step <= len(made.steps)
            return made if typed and steps and {made.stable, *made.releases} <= {*PORTS} else None

        path = STATE / "rollout.json"
        return load(path, "it has to be what rollout.py wrote last", taken) if path.exists() else cls()

    def save(self, event: str) -> None:
        """Writes a decision down. After a crash the history may hold it twice, but does not miss it."""
        tracks = {self.stable: "stable", OTHER[self.stable]: "canary" if self.candidate else "idle"}
        targets = [
            {"targets": [*containers(slot, self.replicas).values()], "labels": {"release": name, "track": tracks[slot]}}
            for slot, name in self.releases.items()
        ]
        line = {"time": round(time.time(), 3), "state": self.state, "share": self.share, "event": event}
        with (STATE / "history.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        write(STATE / "rollout.json", json.dumps(asdict(self), indent=2) + "\n")
        write(STATE / "targets.json", json.dumps(targets, indent=2) + "\n")
        print(event, flush=True)

    def publish(self) -> bool:
        """Writes the map and commits it to HAProxy in one transaction; says whether HAProxy has it."""
        until = int(time.time()) + EXPIRY if self.candidate else 0
        text = f"stable {self.stable}\nshare {self.share}\nuntil {until}\n"
        text += f"candidate {self.candidate or '-'}\nrefused {self.refused or '-'}\n"
        write(MAP, text)
        with contextlib.suppress(OSError):  # HAProxy does not run: it will read the file
            version = re.search(r"version created: (\d+)", haproxy(f"prepare map {MAP}"))
            if version and not haproxy(f"add map @{version[1]} {MAP} <<\n{text}"):
                return not haproxy(f"commit map @{version[1]} {MAP}")
        return False

    def settle(self, limit: float = math.inf) -> None:
        """Waits until HAProxy has what was decided, then ends the rollout."""
        end, waits = time.monotonic() + limit, f"waiting for HAProxy at {SOCKET}\n"
        while not self.publish():
            if time.monotonic() > end:
                raise Refused(f"HAProxy does not answer at {SOCKET}: it will follow when it starts")
            print(waits, end="", flush=True)
            waits = ""
            time.sleep(0.1)
        if self.state in ("promoting", "aborting"):
            self.state = {"promoting": "warm", "aborting": "aborted"}[self.state]
            self.save(f"{self.state}: {self.releases.get(self.stable, 'nobody')} serves all requests")
        ASKED.unlink(missing_ok=True)

    def lacking(self, release: str) -> list[str]:
        """The containers of the other slot that are not ready with a release."""
        asked = containers(OTHER[self.stable], self.replicas).items()
        with ThreadPoolExecutor(32) as pool:  # a host that is gone costs the time of one, not of all its containers
            answers = {name: pool.submit(get, f"http://{address}/readyz") for name, address in asked}
            return [name for name, answer in answers.items() if not release or answer.result()[0] != release]

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
        spent, verdicts = time.time() - self.since, judge(self.candidate)
        lacking = self.lacking(self.candidate)
        if ASKED.exists():
            return self.back("aborted by hand")
        if self.state == "preparing":
            first = self.stable not in self.releases  # nothing to compare with, nobody to protect
            if not lacking and (first or verdicts is not None):
                return self.enter(len(self.steps) if first else 0)
            why = f"not ready after {self.deadline} s: {', '.join(lacking) or worded(verdicts)}"
            return self.back(why) if spent > self.deadline else ""
        step = self.steps[self.step]
        bad = [each for each in verdicts or [] if each["verdict"] < 0]
        good = {each["gate"] for each in verdicts or [] if each["verdict"] > 0}
        if bad or len(lacking) == len(containers("blue", self.replicas)):
            return self.back(worded(bad) if bad else f"no container is ready: {', '.join(lacking)}")
        decided = verdicts is not None and not lacking and ("analysis" not in step or {"errors", "slow"} <= good)
        if decided and spent >= pause(step):
            return self.enter(self.step + 1)
        why = f"undecided after {self.deadline} s: {', '.join(lacking) or worded(verdicts)}"
        return self.back(why) if spent > pause(step) + self.deadline else ""

    def begin(self, release: str) -> None:
        """Begins with a release, unless it serves all requests or ran on since it did."""
        if release == self.releases.get(self.stable):
            return
        if release == self.previous and not self.lacking(release):
            return self.save(self.swap(f"promoting: {release}, which has run on"))
        if release == self.refused:
            raise Refused(f"{release} was rolled back: {self.reason}; release another one, or run `rollout.py again`")
        expected = "spec has to have release, a list of steps, and the numbers replicas and deadlineSeconds"
        spec = load(ETC / "release.json", expected, described)
        containers("blue", 1)  # no server, no rollout
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
    expired, now = float(slots().get("until", 0)) < time.time(), Rollout.load()
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
    write(ASKED, "")
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
        if len(rollout.lacking(before)) == len(containers(other, rollout.replicas)):
            raise Refused(f"{before} does not run: `systemctl start model@{other}-1` on the servers, then undo")
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
    rollout, served = Rollout.load(), {"share": "0", "until": "0", **slots()}
    told, history = asdict(rollout), STATE / "history.jsonl"
    told["release"], told["until"] = told.pop("releases"), int(served["until"])
    told["share"] = int(served["share"]) if told["until"] > time.time() else 0
    verdicts = judge(rollout.candidate) if rollout.candidate else []
    lines = history.read_text().splitlines()[-10:] if history.exists() else []
    told.update(verdicts=verdicts or [], told=worded(verdicts), history=[json.loads(line) for line in lines])
    texts = [f"{rollout.state}: {rollout.stable} serves {told['release'].get(rollout.stable, 'nothing')}"]
    if rollout.candidate:
        at = f"step {rollout.step + 1} of {len(rollout.steps)}" if rollout.state == "step" else "not ready yet"
        texts += [f"{rollout.candidate}: {told['share'] / 100:g} % of requests, {at}", told["told"]]
    print(json.dumps(told) if as_json else "\n".join([*texts, *filter(None, [rollout.reason])]))


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
