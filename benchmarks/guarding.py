"""What keys, limits and the audit log cost the service: CPU of a request.

    python benchmarks/guarding.py [PROJECT]            a generated project of scope=production after `dvc repro`

Services of one process take turns: `open`, without keys; `keys`, with the keys of 100 clients; `limits`, whose client
has a rate and a number of answers a day, with an audit log; and with --redis, these in a Redis that listens there. CPU
a request is the least of the rounds, because other work on the machine can only add to it. The last line on stdout is
JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from counting import ask, bodies, side, tell
from service import Side, free_port, processor_time, running


@dataclass
class Known(Side):
    """A server that is asked with a key."""

    token: str = ""

    def request(self, port: int) -> bytes:
        """Make a request with the key."""
        line, _, rest = super().request(port).partition(b"\r\n")
        return line + f"\r\nAuthorization: Bearer {self.token}\r\n".encode() + rest


def keys(project: Path, package: str, file: Path, *limits: str) -> str:
    """Write the keys of 100 clients, and return that of the last one."""
    env = {**os.environ, "PYTHONPATH": str(project / "src"), "SERVICE_KEYS": str(file)}
    command = [sys.executable, "-m", package, "keys", "new"]
    new = [*command, "client", "--role", "predict", *limits]
    token = subprocess.run(new, cwd=project, env=env, check=True, capture_output=True, text=True).stdout.strip()
    digest = "".join(f"{number:02d}" for number in range(32))
    others = (
        f"- {{name: other-{number}, sha256: ['{number:02d}{digest[2:]}'], roles: [predict]}}" for number in range(99)
    )
    file.write_text(file.read_text() + "\n".join(others) + "\n")
    return token


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3, help="of load, for each figure and round")
    parser.add_argument("--redis", help="address of a Redis server")
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    if not (project / "models/model.json").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")
    (package,) = (path.name for path in (project / "src").iterdir() if (path / "service.py").exists())
    limits = ("--rate", "1000000/second", "--answers", "1000000000")
    variants: dict[str, tuple[str, ...]] = {"open": (), "keys": (), "limits": limits}
    variants |= {"redis": limits} if arguments.redis else {}
    spent: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        scratch, body = Path(folder), bodies(project)
        ports: dict[str, int] = {}
        pids: dict[str, int] = {}
        requests: dict[str, Any] = {}
        for name, options in variants.items():  # one after the other: together they would compile twice
            asked: Side = side(name, project, body[0], scratch)
            if name != "open":
                file = scratch / f"{name}.yaml"
                token = keys(project, package, file, *options)
                asked = Known(**{**vars(asked), "token": token})
                asked.env["SERVICE_KEYS"] = str(file)
                asked.env |= {"SERVICE_AUDIT": str(scratch)} if options else {}
                asked.env |= {"SERVICE_RATE_STORAGE": arguments.redis} if name == "redis" else {}
            ports[name] = free_port()
            pids[name], _ = stack.enter_context(running(asked, ports[name], scratch / f"log-{name}"))
            requests[name] = itertools.cycle([replace(asked, body=each).request(ports[name]) for each in body])
        for round_ in range(arguments.rounds + 1):  # the first one warms
            for name, port in ports.items():
                before = processor_time(pids[name])
                took = asyncio.run(ask(port, requests[name], 4, arguments.seconds, False))
                if round_:
                    spent[name].append((processor_time(pids[name]) - before) / len(took) * 1e6)
    figures = {f"{name}: CPU a request, us": min(values) for name, values in spent.items()}
    figures |= {f"CPU, {name} / open": min(spent[name]) / min(spent["open"]) for name in variants if name != "open"}
    tell(figures, "goal: CPU with keys, limits and audit log at most 1.05")


if __name__ == "__main__":
    main()
