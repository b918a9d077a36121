#!/usr/bin/env python3
"""What a host does with a release: the balancer is configured, a server runs it in the slot that is idle.

This file is copied to all hosts, beside layout.py; both import the standard library alone (Python 3.9). Each command
prints a line for each thing that it has changed, and nothing if there was nothing to do; with --check it changes
nothing, and exits with 1 if there is something.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import layout
    from .layout import ETC, OTHER, PORTS, STATE, Refused
else:  # on a host there is no package
    import layout
    from layout import ETC, OTHER, PORTS, STATE, Refused

HAPROXY = Path(f"{layout.ROOT}/etc/haproxy")


def run(*command: str) -> str:
    """What a program prints.

    Raises:
        Refused: If it fails, with the last line that it told.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise Refused(f"`{' '.join(command)}`: {told[-1]}")
    return done.stdout


def servers() -> str:
    """HAProxy's backends: a slot, and the slot as a canary, whose requests the other one takes if it is gone."""
    replicas = layout.described()["replicas"] if (ETC / "release.json").exists() else 1
    lines = ["# Written by `host.py configure`."]
    for slot, other in OTHER.items():
        own, others = (layout.containers(each, replicas).items() for each in (slot, other))
        lines += ["", f"backend {slot} from slot"]
        lines += [f"    server {name} {address}" for name, address in own]
        # If checks find nobody, anybody is tried: they may be too slow for a check, and still answer.
        lines += [f"    server {name}-anyway {address} no-check backup" for name, address in own]
        lines += ["", f"backend {slot}-canary from canary"]
        lines += [f"    server {name} {address} track {slot}/{name}" for name, address in own]
        lines += [f"    server {other}-{name} {address} backup" for name, address in others]
    return "\n".join(lines) + "\n"


def configure(check: bool) -> int:
    """Writes what HAProxy and Prometheus read on the balancer; what a rollout changes, only if it is not there."""
    certificate = ETC / "secrets/tls.pem"
    # Removed too, because a reload keeps the variables of the process that it replaces.
    tls = f"setenv TLS {certificate}" if certificate.exists() else "unsetenv TLS"
    wanted = {
        HAPROXY / "certificate.cfg": f"# Written by `host.py configure`.\nglobal\n    {tls}\n",
        HAPROXY / "servers.cfg": servers(),
    }
    first = {layout.MAP: layout.mapped(), STATE / "targets.json": "[]\n"}
    wanted.update({path: text for path, text in first.items() if not path.exists()})
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in changed if not check else []:
        layout.put(path, wanted[path])
        print(path)
    return int(check and bool(changed))


def environment(slot: str) -> dict[str, str]:
    """The variables of a slot on this server; none if it is empty."""
    path = ETC / f"{slot}.env"
    if not path.exists():
        return {}
    found = layout.lines(path, "it has to be NAME=value", lambda line: line.split("=", 1) if "=" in line else None)
    return dict(found)


def own_address() -> str:
    """The address of this server among those of hosts.json."""
    for address in layout.addresses("servers").values():
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe,
        ):
            probe.bind((address, 0))
            return address
    raise Refused("no address of the servers in hosts.json is one of this host")


def idle(release: str) -> str:
    """The slot for a release, as the balancer says.

    Raises:
        Refused: If the release was rolled back, or another one is on its way.
    """
    balancer = next(iter(layout.addresses("balancer").values()))
    url = f"http://{balancer}:8404/slots"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            slots = json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise Refused(f"the balancer does not answer at {url}: {getattr(error, 'reason', error)}") from None
    if slots["refused"] == release:
        raise Refused(f"{release} was rolled back: release another one, or run `rollout.py again` on the balancer")
    if slots["candidate"] not in ("-", release) and slots["until"] > time.time():
        raise Refused(f"{slots['candidate']} is on its way: wait for its end, or abort it")
    return OTHER[slots["stable"]]


def units(slot: str) -> dict[str, bool]:
    """The units of a slot that systemd knows, and whether they are active."""
    listed = run("systemctl", "list-units", "--all", "--plain", "--no-legend", f"model@{slot}-*.service")
    return {words[0]: words[2] == "active" for words in map(str.split, listed.splitlines())}


def prepare(check: bool) -> int:
    """Runs the release on this server: in the slot that has it, or in the one that is idle."""
    spec = layout.described()
    release = spec["release"]
    having = [slot for slot in PORTS if environment(slot).get("SERVICE_RELEASE") == release]
    slot = having[0] if having else idle(release)
    before, known = environment(slot), units(slot)
    wanted = [f"model@{slot}-{n}.service" for n in range(1, spec["replicas"] + 1)]
    start = [unit for unit in wanted if not having or not known.get(unit)]
    stop = [unit for unit in known if unit not in wanted or not having]
    if check:
        return int(bool(start or [unit for unit in stop if known[unit]]))
    if start:
        pull(spec["image"])
    if stop:
        run("systemctl", "disable", "--now", *stop)
    if not having:
        values = {"IMAGE": spec["image"], "MEMORY": spec["memory"], "ADDRESS": own_address()}
        values.update(SERVICE_RELEASE=release, SERVICE_MODEL_SHA256=spec["model"]["sha256"])
        values.update(START_SECONDS=str(spec["startSeconds"]))
        layout.put(ETC / f"{slot}.env", "".join(f"{name}={value}\n" for name, value in values.items()))
        print(ETC / f"{slot}.env")
    begun = f"{time.time():.6f}"  # an earlier release may have failed in the same second
    try:
        for unit in start:
            run("systemctl", "enable", "--now", unit)
            print(f"started {unit}")
    except Refused as failed:
        instance = unit[len("model@") : -len(".service")]
        told = run("journalctl", f"--identifier=model-{instance}", f"--since=@{begun}", "--output=cat").splitlines()
        told = [line for line in told if line.startswith("error: ")]
        own = f"error: {instance} "  # begins what `ready` says, who knows less
        reasons = [line for line in told if not line.startswith(own)] or told or [f"error: {failed}"]
        if not having:
            run("systemctl", "disable", "--now", *start)
            (ETC / f"{slot}.env").unlink()
        raise Refused(f"{release} does not start: {reasons[-1].split(': ', 1)[1]}") from None
    old = before.get("IMAGE")
    if old and old not in (spec["image"], environment(OTHER[slot]).get("IMAGE")):
        with contextlib.suppress(Refused):  # somebody else may use it
            run("podman", "rmi", old)
    return 0


def pull(image: str) -> None:
    """Brings an image here, unless it is here."""
    with contextlib.suppress(Refused):
        run("podman", "image", "exists", image)
        return
    logins = ETC / "secrets/registry.json"
    run("podman", "pull", "--quiet", *(["--authfile", str(logins)] if logins.exists() else []), image)


def ready(instance: str) -> int:
    """Waits until a container answers that it is ready with the release of its slot."""
    match = re.fullmatch("(blue|green)-([1-9][0-9]?)", instance)
    if match is None:
        raise Refused(f"{instance!r} is no container: blue-1 and green-1 are the first ones of the slots")
    slot, number = match.groups()
    values = environment(slot)
    if not {"ADDRESS", "SERVICE_RELEASE", "START_SECONDS"} <= set(values):
        raise Refused(f"{ETC / f'{slot}.env'} does not say which release runs there: deploy first")
    url = f"http://{values['ADDRESS']}:{PORTS[slot] + int(number)}/readyz"
    limit = values["START_SECONDS"]
    if not limit.isdecimal():
        raise Refused(f"{ETC / f'{slot}.env'} has {limit!r} for START_SECONDS: a number of seconds is expected")
    process = Path("/proc", os.environ.get("MAINPID", ""))  # of the container
    end, told = time.monotonic() + int(limit), ""
    while time.monotonic() < end:
        if not process.exists():
            raise Refused(f"{instance} has ended before it was ready with {values['SERVICE_RELEASE']}")
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.headers.get("x-release") == values["SERVICE_RELEASE"]:
                    return 0
                told = f"it is release {answer.headers.get('x-release')}"
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace").strip()[:200]
        except OSError as error:
            told = str(getattr(error, "reason", error))
        time.sleep(0.1)
    raise Refused(f"{instance} is not ready with {values['SERVICE_RELEASE']} after {limit} s: {told}")


def main() -> int:
    """Runs a command; 1 if it fails, or if there is something to do with --check."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for function in (configure, prepare):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.add_argument("--check", action="store_true", help="change nothing; 1 if there is something to do")
        command.set_defaults(function=function)
    commands.add_parser("ready", help=ready.__doc__).add_argument("instance", help="such as blue-1")
    given = parser.parse_args()
    try:
        return int(ready(given.instance) if given.command == "ready" else given.function(given.check))
    except (Refused, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
