"""From a merged model to production by the lines of CI, as the last part of the scenario of test_loop.py.

HAProxy, Prometheus, controller, gates, rules, registry of images and the services are real. Processes stand in for
containers, and for `ssh` and `ansible-playbook` what they would run on a host. The image holds the Bento and no Python:
test_image.py builds and runs the real one.
"""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from clusters import wait_until
from conftest import BakedProject, edit
from delivery import serving
from hammer import Hammer
from hosting import ANALYSIS, JSON_HEAD, PORTS, Host, loopback
from images import registry
from loop import SHIFT, rows

MIXED = 0.3  # share of drifted rows in what clients ask
ROWS, REQUEST = 40_000, 4  # rows in all, rows of a request
STEPS = [{"setWeight": 50}, {"pause": {"duration": "2s"}}, ANALYSIS]
SSH = """#!/bin/bash
while [ "$1" != -- ]; do shift; done
program=/usr/local/lib/model/rollout.py
eval "exec ${{2//"$program"/{root}/rollout.py}}"
"""
ANSIBLE = """#!{python}
import json, os, yaml
release = yaml.safe_load(open("deploy/release.yaml"))
json.dump(release, open("{root}/etc/model/release.json", "w"))
os.execv("{python}", ["{python}", "{root}/rollout.py", "run", release["spec"]["release"]])
"""
SYSTEMCTL = "#!/bin/sh\necho inactive\n"  # the playbook has waited for the controller


@dataclass(frozen=True)
class Delivered:
    """What happened.

    Attributes:
        old: The release before.
        new: The release of the new model.
        alarms: Releases whose columns drift, before and after the deployment.
        psi: Distance of what the new release was asked from its data.
        failed: Requests that failed.
        seconds: How long it took.
    """

    old: str
    new: str
    alarms: tuple[set[str], set[str]]
    psi: float
    failed: list[Any]
    seconds: float


def verbs(project: BakedProject, workflow: str, job: str) -> list[str]:
    """The lines of a job of CI that call make."""
    steps = yaml.safe_load(project.read(f".github/workflows/{workflow}.yml"))["jobs"][job]["steps"]
    lines = [line for step in steps for line in step.get("run", "").splitlines()]
    return [line for line in lines if line.startswith("make ")]


class Chain:
    """A project, a host with its service, and its clients."""

    def __init__(self, project: BakedProject, host: Host, env: Mapping[str, str]) -> None:
        """Takes its parts."""
        self.project, self.host, self.env = project, host, env

    def make(self, line: str) -> str:
        """Runs a line of CI."""
        done = self.project.run("bash", "-ec", line, env=self.env)
        return done.stdout + done.stderr

    def query(self, expression: str) -> list[Any]:
        """The result of a query of the host's Prometheus."""
        answer = httpx.get(f"{self.host.prometheus}/api/v1/query", params={"query": expression}, timeout=30).json()
        return list(answer["data"]["result"])

    def alarms(self) -> set[str]:
        """Releases for which x drifts."""
        found = self.query('ALERTS{alertname="InputDrift", alertstate="firing", column="x"}')
        return {each["metric"]["release"] for each in found}

    def asked(self, release: str) -> float:
        """How many rows of a release were counted."""
        found = self.query(f'sum(model_rows_total{{column="x", release="{release}"}})')
        return float(found[0]["value"][1]) if found else 0

    def describe(self, repository: str) -> None:
        """Writes where images and hosts are, as an owner does, and commits."""
        edit(self.project, "conf/delivery.yaml", "registry.example.org/my_experiment", repository)
        content = yaml.safe_load(self.project.read("conf/delivery.yaml"))
        content["delivery"] |= {"replicas": 1, "steps": STEPS, "deadline": "2m"}
        (self.project.path / "conf/delivery.yaml").write_text(yaml.safe_dump(content))
        hosts = {"one": {"address": self.host.address}}
        groups = {name: {"hosts": hosts} for name in ("balancer", "servers")}
        (self.project.path / "deploy/hosts.yaml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        self.project.commit("Where it is delivered")

    def image(self, bento: str, home: Path) -> None:
        """Makes what stands in for the image of a Bento."""
        name, version = bento.split(":")
        folder = home / "bentos" / name / version
        labels = yaml.safe_load((folder / "bento.yaml").read_text())["labels"]
        options = [f"--label={key}={labels[key]}" for key in ("model_sha256", "git_commit")]
        words = ["podman", "build", "--quiet", "--format=docker", "--file=-", f"--tag={bento}", *options, str(folder)]
        self.project.run("bash", "-c", f"echo 'FROM scratch\nCOPY src /' | {' '.join(words)}", env=self.env)


def deliver(project: BakedProject, before: BakedProject, folder: Path, programs: Mapping[str, Path]) -> Delivered:
    """Brings the champion of a project to production.

    Args:
        project: A project whose champion was promoted.
        before: The project with the model that serves.
        folder: An empty folder; the path of a socket in it has to be short.
        programs: Files of `haproxy` and `prometheus`.

    Returns:
        What happened.
    """
    begun, home = time.monotonic(), folder / "bentoml"
    (folder / "images").mkdir()
    key = folder / "signing.pem"
    project.run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    # All different: a row that is asked for again is not counted again.
    drifts = np.random.default_rng(7).random(ROWS) < MIXED
    mixed = zip(rows(ROWS, 7), rows(ROWS, 8, SHIFT), drifts, strict=True)
    table = [drifted if drift else usual for usual, drifted, drift in mixed]
    for row in table:
        del row["level"]
    bodies = [json.dumps({"instances": table[start : start + REQUEST]}).encode() for start in range(0, ROWS, REQUEST)]
    with ExitStack() as resources:
        place, env = resources.enter_context(registry(folder / "images"))
        (folder / "host").mkdir()
        host = Host(folder / "host", loopback(), resources, programs)
        tools = folder / "bin"
        tools.mkdir()
        for name, text in (("ssh", SSH), ("ansible-playbook", ANSIBLE), ("systemctl", SYSTEMCTL)):
            (tools / name).write_text(text.format(python=sys.executable, root=host.root))
            (tools / name).chmod(0o755)
        path = f"{tools}:{project.path}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        own = {"PATH": path, "BENTOML_HOME": str(home), "MODEL_SIGNING_KEY": str(key), "REGISTRY": place}
        own |= {"ROLLOUT_ROOT": str(host.root), "ROLLOUT_PROMETHEUS": host.prometheus}
        chain = Chain(project, host, {**env, **own})
        chain.describe(f"{place}/my_experiment")
        rules = yaml.safe_load(project.read("monitoring/rules.yml"))["groups"]
        host.lay(
            project.path, [{name: value for name, value in group.items() if name != "interval"} for group in rules]
        )
        (host.root / "rollout.py").chmod(0o755)
        host.command("configure")
        host.start("haproxy")
        host.start("prometheus")
        old, _ = serving(before.path)(host, host.idle())
        host.describe(old, STEPS)
        host.command("run", old)
        hammer = Hammer(host.service, [(JSON_HEAD, body) for body in bodies], clients=4, pause=0.03)
        with hammer.running():
            wait_until(lambda: chain.alarms() == {old}, "an alarm", 60)
            alarms = chain.alarms()
            new = propose(chain, place, home)
            project.run("git", "merge", "--quiet", project.read("build/branch").strip())
            spec = yaml.safe_load(project.read("deploy/release.yaml"))["spec"]
            words = ("bentoml", "serve", project.read("build/bento").strip())
            served = {"SERVICE_RELEASE": new, "SERVICE_MODEL_SHA256": spec["model"]["sha256"], "HOME": str(folder)}
            slot = host.idle()
            where = ("--host", host.address, "--port", str(PORTS[slot]))
            host.contain(slot, *words, *where, cwd=project.path, env={**chain.env, **served})
            deploy, status = verbs(project, "deploy", "deploy")
            told = chain.make(deploy)
            assert f"my_experiment/1, release {new}, serves all requests: alias production" in told, told
            wait_until(lambda: chain.asked(new) > 400, "rows of the new release", 60)
            (found,) = chain.query(f'model:drift:psi1h{{column="x", release="{new}"}}')
            told = chain.make(status)
            assert "differs" not in told and f"serves        {new}" in told, told
            after = chain.alarms()
        failed = [answer for answer in hammer.answers if answer.status != 200]
    return Delivered(old, new, (alarms, after), float(found["value"][1]), failed, time.monotonic() - begun)


def propose(chain: Chain, place: str, home: Path) -> str:
    """Runs the lines of the job that proposes a release, and gives its name."""
    project = chain.project
    done, lines = ["make register", "make promote"], verbs(project, "ci", "propose")
    assert lines[:2] == done, "the loop has done this"
    for line in lines[2:]:
        match line.split()[1]:
            case "audit":  # asks a network for known vulnerabilities
                continue
            case "image":
                chain.image(project.read("build/bento").strip(), home)
            case _:
                chain.make(line.replace("ghcr.io/$GITHUB_REPOSITORY_OWNER", "$REGISTRY"))
    bento = project.read("build/bento").strip().replace(":", "/")
    assert (home / "bentos" / bento / "bento.sig").is_file()
    branch = project.read("build/branch").strip()
    return branch.partition("-")[2]
