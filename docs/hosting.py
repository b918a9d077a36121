"""A balancer and a server of a delivery on this machine, without root: HAProxy, Prometheus and a project's own files.

Processes stand in for containers. They and all the rest listen on one address of the loopback interface alone.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from programs import answering

# What takes minutes on hosts takes seconds here: how long a candidate has to be bad (two scrapes), and how long the
# share of a controller lasts that is away.
HOLD, EXPIRY = 2, 5
ANALYSIS = {"analysis": {"templates": [{"templateName": "gates"}]}}
PORTS = {"blue": 3101, "green": 3201}
OTHER = {"blue": "green", "green": "blue"}
JSON_HEAD = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\n"

Process = subprocess.Popen[bytes]


def loopback() -> str:
    """A random address of the loopback interface: a host's ports are fixed, so each host needs its own address."""
    parts = random.SystemRandom()
    return f"127.{parts.randint(1, 254)}.{parts.randint(0, 255)}.{parts.randint(1, 254)}"


def stop(process: Process) -> None:
    """Ends a container as systemd does."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(20)


@dataclass
class Host:
    """A balancer and a server on one address.

    Attributes:
        root: What ROLLOUT_ROOT names.
        address: The address.
        resources: Ends what was started.
        programs: Files of `haproxy` and `prometheus`.
        containers: What runs in place of containers, by port.
        processes: What runs of the programs.
    """

    root: Path
    address: str
    resources: ExitStack
    programs: Mapping[str, Path]
    containers: dict[int, Process] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)

    @property
    def service(self) -> tuple[str, int]:
        return self.address, 8080

    @property
    def prometheus(self) -> str:
        return f"http://{self.address}:9090"

    @property
    def state(self) -> Path:
        return self.root / "var/lib/model"

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "ROLLOUT_ROOT": str(self.root), "ROLLOUT_PROMETHEUS": self.prometheus}

    def lay(self, project: Path, groups: Sequence[object] = ()) -> None:
        """Lays the files of a project out as Ansible and Puppet do, with shorter times.

        Args:
            project: The project.
            groups: Further groups of rules for Prometheus.
        """
        for folder in ("etc/model", "etc/haproxy", "var/lib/model", "run/haproxy"):
            (self.root / folder).mkdir(parents=True)
        children = {
            "balancer": {"hosts": {"lb": {"address": self.address}}},
            "servers": {"hosts": {"app": {"address": self.address}}},
        }
        (self.root / "etc/model/hosts.json").write_text(json.dumps({"all": {"children": children}}))
        config = (project / "deploy/hosts/haproxy.cfg").read_text()
        for old, new in (
            ("/var/lib/model", f"{self.root}/var/lib/model"),
            ("/run/haproxy", f"{self.root}/run/haproxy"),
            ("bind :80\n", f"bind {self.address}:8080\n"),
            ("bind :8404\n", f"bind {self.address}:8404\n"),
            (" user haproxy mode 600\n", "\n"),
            ("    user haproxy\n    group haproxy\n", ""),
            ("    log /dev/log local0 notice\n", ""),
        ):
            assert old in config
            config = config.replace(old, new)
        (self.root / "etc/haproxy/haproxy.cfg").write_text(config)
        gates = yaml.safe_load((project / "deploy/gates.yaml").read_text())["spec"]
        gates["groups"] += groups
        (self.root / "gates.yml").write_text(yaml.safe_dump(gates).replace("[6s]", f"[{HOLD}s]"))
        (delivery,) = (project / "src").glob("*/harness/delivery")
        program = (delivery / "rollout.py").read_text()
        assert "\nEXPIRY = 15 " in program
        (self.root / "rollout.py").write_text(program.replace("\nEXPIRY = 15 ", f"\nEXPIRY = {EXPIRY} "))
        for name in ("host.py", "layout.py", "peers.py"):
            shutil.copy(delivery / name, self.root)
        scrape = {
            "job_name": "model",
            "file_sd_configs": [{"files": ["var/lib/model/targets.json"], "refresh_interval": "1s"}],
        }
        times = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (self.root / "prometheus.yml").write_text(
            yaml.safe_dump({"global": times, "rule_files": ["gates.yml"], "scrape_configs": [scrape]})
        )

    def command(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs a command of rollout.py or host.py, as the host does."""
        file = "host.py" if words[0] in ("configure", "prepare", "ready") else "rollout.py"
        command = [sys.executable, str(self.root / file), *words]
        done = subprocess.run(command, cwd=self.root, env=self.env, check=False, capture_output=True, text=True)
        if "Traceback" in done.stderr or (check and done.returncode):
            raise SystemExit(f"error: `{file} {' '.join(words)}` ended with {done.returncode}: {done.stderr}")
        return done

    def now(self) -> dict[str, Any]:
        """What `status` tells, from its files: it is asked often."""
        content: dict[str, Any] = json.loads((self.state / "rollout.json").read_text())
        content["release"] = content.pop("releases")
        served = dict(line.split() for line in (self.state / "slots.map").read_text().splitlines())
        until = int(served["until"])
        return {**content, "until": until, "share": int(served["share"]) if until > time.time() else 0}

    def history(self, since: float) -> list[dict[str, Any]]:
        """What the controller has decided since a time."""
        lines = map(json.loads, (self.state / "history.jsonl").read_text().splitlines())
        return [line for line in lines if line["time"] >= since]

    def idle(self) -> str:
        """The slot that is not stable."""
        path = self.state / "rollout.json"
        return OTHER[self.now()["stable"]] if path.exists() else "green"

    def describe(self, release: str, steps: Sequence[object], deadline: int = 60, replicas: int = 1) -> None:
        """Writes release.json, as Ansible and Puppet do."""
        spec = {
            "release": release,
            "image": "x@sha256:0",
            "model": {"sha256": "0" * 64},
            "replicas": replicas,
            "memory": "512Mi",
            "deadlineSeconds": deadline,
            "steps": steps,
        }
        (self.root / "etc/model/release.json").write_text(json.dumps({"kind": "Release", "spec": spec}))

    def start(self, name: str) -> None:
        """Starts a program of the balancer, again if it has run."""
        options: tuple[str | Path, ...] = ("-db", "-f", self.root / "etc/haproxy")
        url = f"http://{self.address}:8404/slots"
        if name == "prometheus":
            options = (
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=series",
                f"--web.listen-address={self.address}:9090",
            )
            url = f"{self.prometheus}/-/ready"
        program = answering(self.programs[name], *options, url=url, cwd=self.root, log=self.root / f"{name}.log")
        self.processes[name] = self.resources.enter_context(program)

    def contain(self, slot: str, *command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        """Lets a program take the place of the container of a slot, and waits until it is ready."""
        port = PORTS[slot]
        if port in self.containers:
            stop(self.containers[port])
        url, log = f"http://{self.address}:{port}/readyz", self.root / f"{slot}.log"
        self.containers[port] = self.resources.enter_context(answering(*command, url=url, cwd=cwd, log=log, env=env))

    @contextmanager
    def controller(self, release: str) -> Iterator["subprocess.Popen[str]"]:
        """Runs the controller, as its unit does."""
        command = [sys.executable, str(self.root / "rollout.py"), "run", release]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=self.root, env=self.env, start_new_session=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()
