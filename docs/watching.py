"""A Prometheus and an Alertmanager that watch targets with a project's own files, quickly; and a webhook."""

import contextlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from programs import answering, free_port

PACKAGES = ("prometheus", "prometheus-alertmanager")
# Debian's Alertmanager knows its templates by their absolute paths.
TEMPLATES = Path("/usr/share/prometheus/alertmanager")
STEP = 1.0  # seconds between two scrapes, and between two evaluations


@dataclass
class Watch:
    """What watches.

    Attributes:
        prometheus: A client of Prometheus.
        messages: What Alertmanager sent to the webhook.
    """

    prometheus: httpx.Client
    messages: list[Any] = field(default_factory=list)

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query."""
        answer = self.prometheus.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        return list(answer["data"]["result"])

    def value(self, expression: str) -> float | None:
        """The value of a query with one result; None if there is none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def alerts(self, name: str) -> list[Any]:
        """The alerts of a name that the webhook was told of."""
        return [
            each for message in [*self.messages] for each in message["alerts"] if each["labels"]["alertname"] == name
        ]


@contextlib.contextmanager
def watching(
    folder: Path, tools: Path, targets: Sequence[tuple[str, Mapping[str, str]]], monitoring: Path
) -> Iterator[Watch]:
    """Watches targets until the end of the block, with the files of a project: their intervals shortened alone.

    Args:
        folder: A folder for files.
        tools: Folder of the programs.
        targets: Address and labels of each process.
        monitoring: Folder of the project's files.
    """
    messages: list[Any] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    step = f"{STEP * 1000:.0f}ms"
    hook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    ports = {"9090": free_port(), "9093": free_port(), "9095": hook.server_address[1]}
    for file in monitoring.glob("*.yml"):
        text = file.read_text(encoding="utf-8")
        text = re.sub(
            r"(?m)^(\s*(?:scrape_interval|evaluation_interval|interval|group_wait|group_interval): ).*",
            rf"\g<1>{step}",
            text,
        )
        for old, new in ports.items():
            text = text.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
        (folder / file.name).write_text(text, encoding="utf-8")
    told = [{"targets": [address], "labels": dict(labels)} for address, labels in targets]
    (folder / "targets.yml").write_text(yaml.safe_dump(told), encoding="utf-8")
    base = f"http://127.0.0.1:{ports['9090']}"
    manager = f"127.0.0.1:{ports['9093']}"
    with contextlib.ExitStack() as stack:
        stack.callback(hook.server_close)
        stack.callback(hook.shutdown)
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        alertmanager = (
            "--config.file=alertmanager.yml",
            f"--web.listen-address={manager}",
            "--cluster.listen-address=",
            "--storage.path=alerts",
        )
        prometheus = (
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=series",
            f"--web.listen-address=127.0.0.1:{ports['9090']}",
        )
        for name, options, address in (
            ("prometheus-alertmanager", alertmanager, f"http://{manager}"),
            ("prometheus", prometheus, base),
        ):
            ready, log = f"{address}/-/ready", folder / f"{name}.log"
            stack.enter_context(answering(tools / name, *options, url=ready, cwd=folder, log=log))
        yield Watch(stack.enter_context(httpx.Client(base_url=base, timeout=30)), messages)


def tools(folder: Path) -> Path:
    """The folder of prometheus, promtool, prometheus-alertmanager and amtool.

    If they are not installed, Debian's packages are unpacked without being installed, so that no service starts.

    Args:
        folder: Where to unpack them.

    Raises:
        SystemExit: If they are neither here nor to be had.
    """
    if all(map(shutil.which, PACKAGES)):
        return Path(str(shutil.which(PACKAGES[0]))).parent
    missing = f"error: Prometheus is not here: install {' and '.join(PACKAGES)} (Debian, Ubuntu)"
    unpack(folder, PACKAGES, missing)
    for template in (folder / TEMPLATES.relative_to("/")).glob("*.tmpl"):
        if not (TEMPLATES / template.name).exists():
            if os.geteuid() != 0:
                raise SystemExit(f"{missing}: only root can put the templates of Alertmanager in place")
            TEMPLATES.mkdir(parents=True, exist_ok=True)
            shutil.copy(template, TEMPLATES)
    return folder / "usr/bin"


def unpack(folder: Path, packages: Sequence[str], missing: str) -> None:
    """Unpacks packages of Debian in a folder, unless they are there.

    Args:
        folder: Where to unpack them.
        packages: Their names.
        missing: What to tell if they are not to be had.

    Raises:
        SystemExit: If they are not to be had.
    """
    if not shutil.which("apt-get"):
        raise SystemExit(missing)
    if (folder / "usr").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    commands = [["apt-get", "download", "--quiet", *packages]]
    if os.geteuid() == 0:  # the lists may be older than the packages
        commands += [["apt-get", "update", "--quiet"], commands[0]]
    for command in commands:
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
        if command is commands[0] and done.returncode == 0:
            break
    else:
        raise SystemExit(f"{missing}: {done.stderr[-300:]}")
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True, timeout=300)


def program(name: str, folder: Path) -> Path:
    """A program of the Debian package of the same name, unpacked in a folder if it is not installed.

    Raises:
        SystemExit: If it is neither here nor to be had, or does not run.
    """
    places = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"  # which a person's PATH lacks
    missing = f"error: {name} is not here: install {name} (Debian, Ubuntu)"
    found = shutil.which(name, path=places)
    if found is None:
        unpack(folder, [name], missing)
        found = shutil.which(name, path=f"{folder / 'usr/bin'}{os.pathsep}{folder / 'usr/sbin'}")
    runs = found and subprocess.run(
        [found, "-v" if name == "haproxy" else "--version"], check=False, capture_output=True
    )
    if not found or not runs or runs.returncode:
        raise SystemExit(missing)
    return Path(found)
