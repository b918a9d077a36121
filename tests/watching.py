"""A Prometheus and an Alertmanager that watch targets with the project's own files, quickly; and a webhook."""

import contextlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from conftest import TEMPLATE, free_port, wait_until_ready
from processes import running

MONITORING = TEMPLATE / "monitoring"
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
def watching(folder: Path, tools: Path, targets: Sequence[tuple[str, Mapping[str, str]]]) -> Iterator[Watch]:
    """Watches targets until the end of the block, with the committed files: their intervals shortened alone.

    Args:
        folder: An empty folder.
        tools: Folder of the programs.
        targets: Address and labels of each process.
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
    for file in MONITORING.glob("*.yml"):
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
        log = stack.enter_context((folder / "log").open("wb"))
        options = {"cwd": folder, "stdout": log, "stderr": log}
        alertmanager = (
            "--config.file=alertmanager.yml",
            f"--web.listen-address={manager}",
            "--cluster.listen-address=",
        )
        first = running(tools / "prometheus-alertmanager", *alertmanager, "--storage.path=alerts", **options)
        wait_until_ready(f"http://{manager}/-/ready", stack.enter_context(first))
        second = running(
            tools / "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=series",
            f"--web.listen-address=127.0.0.1:{ports['9090']}",
            **options,
        )
        wait_until_ready(f"{base}/-/ready", stack.enter_context(second))
        yield Watch(stack.enter_context(httpx.Client(base_url=base, timeout=30)), messages)
