"""What HAProxy costs in front of the service: latency through it against direct, by its configuration on hosts.

    python benchmarks/proxy.py [PROJECT]            a generated project after `dvc repro`; wants haproxy

One service of one process; the ways take turns within each round, on the same machine, which shares its cores with
client and proxy. p50 and p99 are medians of the rounds. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from counting import ask, bodies, side, tell
from service import free_port, running

TEMPLATE = Path(__file__).resolve().parent.parent / "{{cookiecutter.project}}"
DELIVERY = TEMPLATE / "src/{{cookiecutter.package}}/harness/delivery"
START_LIMIT = 30.0


@contextlib.contextmanager
def proxy(port: int, scratch: Path) -> Iterator[int]:
    """Run HAProxy with the service in one slot, half of the requests by the way of a canary; give its port."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if program is None:
        raise SystemExit("error: HAProxy is not here: install haproxy (Debian, Ubuntu)")
    for folder in ("etc/model", "etc/haproxy", "run/haproxy"):
        (scratch / folder).mkdir(parents=True)
    hosts = {"balancer": {"hosts": {}}, "servers": {"hosts": {"app": {"address": "127.0.0.1"}}}}
    (scratch / "etc/model/hosts.json").write_text(json.dumps({"all": {"children": hosts}}))
    env = {**os.environ, "ROLLOUT_ROOT": str(scratch)}
    subprocess.run([sys.executable, DELIVERY / "host.py", "configure"], env=env, check=True, capture_output=True)
    servers = scratch / "etc/haproxy/servers.cfg"
    servers.write_text(servers.read_text().replace(":3101", f":{port}").replace(":3201", f":{port}"))
    until = int(time.time()) + 3600
    (scratch / "var/lib/model/slots.map").write_text(f"stable blue\nshare 5000\nuntil {until}\n")
    config, own, status = (TEMPLATE / "deploy/hosts/haproxy.cfg").read_text(), free_port(), free_port()
    for old, new in (
        ("/var/lib/model", f"{scratch}/var/lib/model"),
        ("/run/haproxy", f"{scratch}/run/haproxy"),
        ("bind :80\n", f"bind 127.0.0.1:{own}\n"),
        ("bind :8404\n", f"bind 127.0.0.1:{status}\n"),
        (" user haproxy mode 600\n", "\n"),
        ("    user haproxy\n    group haproxy\n", ""),
        ("    log /dev/log local0 notice\n", ""),
    ):
        config = config.replace(old, new)
    (scratch / "etc/haproxy/haproxy.cfg").write_text(config)
    with (
        (scratch / "log").open("wb") as log,
        subprocess.Popen([program, "-db", "-f", scratch / "etc/haproxy"], stdout=log, stderr=log) as process,
    ):
        try:
            end = time.monotonic() + START_LIMIT
            while True:
                with contextlib.suppress(OSError):
                    asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", own), 5))
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"HAProxy did not start:\n{(scratch / 'log').read_text()[-3000:]}")
                time.sleep(0.01)
            yield own
        finally:
            process.kill()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3, help="of load, for each figure and round")
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    if not (project / "models/model.json").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")
    took: dict[tuple[str, int], list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        scratch, body = Path(folder), bodies(project)
        asked, port = side("service", project, body[0], scratch), free_port()
        stack.enter_context(running(asked, port, scratch / "log-service"))
        ways = {"direct": port, "proxy": stack.enter_context(proxy(port, scratch / "hosts"))}
        requests = itertools.cycle([replace(asked, body=each).request(port) for each in body])
        for round_ in range(arguments.rounds + 1):  # the first one warms
            for (name, way), clients in itertools.product(ways.items(), (1, 8)):
                times = np.array(asyncio.run(ask(way, requests, clients, arguments.seconds, False)))
                if round_:
                    took.setdefault((name, clients), []).append(np.percentile(times, [50, 99]) * 1e3)
    figures = {}
    for clients, (place, percent) in itertools.product((1, 8), enumerate((50, 99))):
        direct, through = (
            statistics.median(float(each[place]) for each in took[name, clients]) for name in ("direct", "proxy")
        )
        figures[f"{clients} clients: p{percent} direct, ms"] = direct
        figures[f"{clients} clients: p{percent} proxy, ms"] = through
        figures[f"{clients} clients: p{percent}, proxy / direct"] = through / direct
    tell(figures, "the proxy adds some tenths of a millisecond")


if __name__ == "__main__":
    main()
