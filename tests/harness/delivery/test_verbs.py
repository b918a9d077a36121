"""Deploy, status, abort and undo over a real SSH server, with the real controller and the real HAProxy.

In place of containers and Prometheus, servers of this process answer: what these do is tested elsewhere.
"""

import contextlib
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from debian import apt_install
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import abort, deploy, description, fleet, hosts, status, undo
from my_experiment.harness.delivery.description import PATH, Model, Spec
from my_experiment.harness.release import versions
from my_experiment.harness.tracking import store
from processes import running
from programs import free_port
from support import HARNESS, commit, git

Client = Any  # mlflow.MlflowClient
ROLLOUT = HARNESS / "delivery/rollout.py"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd needs root to let another process log in")
HAPROXY = """
global
    stats socket {root}/run/haproxy/admin.sock level admin
defaults
    mode http
    timeout connect 1s
    timeout client 9s
    timeout server 9s
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1
backend blue
    server a-1 {address}:3101
backend green
    server a-1 {address}:3201
frontend slots
    bind unix@{root}/run/haproxy/service.sock
    http-request return status 200 content-type text/plain lf-string %[str(stable),map({root}/var/lib/model/slots.map)]
"""


class Servers:
    """What answers in place of the containers of both slots, and of Prometheus.

    Attributes:
        address: Address of this stack alone: the ports of a host are fixed.
        ready: Port -> release of the containers that are ready.
    """

    def __init__(self, address: str) -> None:
        self.address, self.ready = address, dict[int, str]()
        self._servers = [ThreadingHTTPServer((address, port), self._handler()) for port in (3101, 3201, 9090)]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        ready = self.ready

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a check of HAProxy that does not wait for the end
                    super().handle()

            def do_GET(self) -> None:
                port = int(self.server.server_address[1])  # type: ignore[index] # not of a Unix socket
                release = ready.get(port)
                self.send_response(200 if release or port == 9090 else 503)
                if release:
                    self.send_header("x-release", release)
                self.end_headers()
                self.wfile.write(b'{"data": {"result": []}}')

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def stack() -> Iterator[tuple[Path, Servers, list[str]]]:
    """A balancer: its folder, the containers, and the variables of its SSH server for hosts.yaml."""
    if not ROLLOUT.exists():
        pytest.skip("there is no controller yet")
    if missing := [
        name for name, program in (("openssh-server", "sshd"), ("haproxy", "haproxy")) if not found(program)
    ]:
        apt_install(*missing)
    with tempfile.TemporaryDirectory(prefix="verbs-") as folder:  # the path of a Unix socket has to be short
        yield from balancer(Path(folder))


def balancer(root: Path) -> Iterator[tuple[Path, Servers, list[str]]]:
    """Runs the balancer in a folder; see `stack`."""
    for name in ("etc/model", "var/lib/model", "run/haproxy"):
        (root / name).mkdir(parents=True)
    servers = Servers(f"127.88.{os.getpid() % 250}.{os.getpid() // 250 % 250 + 1}")
    machines = {"all": {"children": {"servers": {"hosts": {"a": {"address": servers.address}}}}}}
    (root / "etc/model/hosts.json").write_text(json.dumps(machines))
    (root / "var/lib/model/slots.map").write_text("stable blue\nshare 0\nuntil 0\ncandidate -\nrefused -\n")
    (root / "haproxy.cfg").write_text(HAPROXY.format(root=root, address=servers.address))
    port = free_port()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", root / key], check=True)
    shutil.copy(root / "user.pub", root / "authorized_keys")
    (root / "known_hosts").write_text(f"[127.0.0.1]:{port} {(root / 'host.pub').read_text()}")
    # The place of the controller on hosts belongs to root; here it is a file of the project. Only hosts have systemd.
    programs = {
        "force": f"export ROLLOUT_ROOT={root} ROLLOUT_PROMETHEUS=http://{servers.address}:9090 PATH={root}:$PATH\n"
        f'program={hosts.PROGRAM}; eval "exec ${{SSH_ORIGINAL_COMMAND//"$program"/{root}/rollout}}"',
        "rollout": f'exec {sys.executable} {ROLLOUT} "$@"',
        "hostname": "echo 10.0.0.1 10.0.0.2 fe80::1",
        "systemctl": f"grep -qz . /proc/$(cat {root}/pid)/cmdline && echo active || echo inactive",
        "journalctl": f"cat {root}/journal",
    }
    for name, script in programs.items():
        (root / name).write_text(f"#!/bin/bash\n{script}\n")
        (root / name).chmod(0o755)
    force = root / "force"
    (root / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {root}/host\nAuthorizedKeysFile {root}/authorized_keys\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nForceCommand {force}\nPermitRootLogin yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    with (root / "log").open("wb") as log, contextlib.ExitStack() as resources:
        resources.callback(servers.close)
        for command in (
            [found("sshd"), "-D", "-e", "-f", root / "sshd_config"],
            [found("haproxy"), "-db", "-f", root / "haproxy.cfg"],
        ):
            resources.enter_context(running(*command, stdout=log, stderr=log))
        try:
            wait(lambda: (root / "run/haproxy/admin.sock").exists() and listens(port))
        except AssertionError:
            pytest.fail((root / "log").read_text())
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": f"{root}/user",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={root}/known_hosts",
        }
        yield root, servers, [f"{name}: {json.dumps(value)}" for name, value in variables.items()]


def found(program: str) -> str | None:
    """A program, which may be in a folder of root's."""
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


def wait(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


class Project:
    """A project with two registered versions, whose playbook only runs the rollout.

    Attributes:
        registry: The MLflow store.
        servers: The containers.
    """

    def __init__(self, root: Path, servers: Servers, variables: list[str], registry: Client) -> None:
        self.root, self.servers, self.registry = root, servers, registry
        hosts.PATH.parent.mkdir()
        hosts.PATH.write_text(
            "all:\n  children:\n    balancer:\n      hosts:\n        lb: {address: 10.0.0.1, "
            + ", ".join(variables)
            + "}\n"
            f"    servers:\n      hosts:\n        a: {{address: 10.0.0.2, {', '.join(variables)}}}\n"
        )
        fleet.ANSIBLE.parent.mkdir()
        fleet.ANSIBLE.write_text("- hosts: balancer\n")
        registry.create_registered_model(versions.MODEL)
        for number in "123":
            registry.create_model_version(versions.MODEL, "file:///1", None, {"model_sha256": number * 64})
        git("init", "--quiet")

    def release(self, number: str, deadline: int = 60, sha256: str = "") -> str:
        """Commits the release of a version, whose containers are ready; gives its name."""
        digest = number * 64
        spec = Spec(
            release=digest[:12],
            image=f"registry.example.org/my_experiment@sha256:{digest}",
            model=Model(name=versions.MODEL, version=number, sha256=sha256 or digest),
            replicas=1,
            memory="512Mi",
            deadlineSeconds=deadline,
            steps=[{"setWeight": 100}],
        )
        PATH.write_text(description.text(description.release(spec)))
        commit()
        return spec.release

    def alias(self) -> str | None:
        return versions.aliases(self.registry).get(versions.PRODUCTION)

    def tags(self, number: str) -> dict[str, str]:
        tags: dict[str, str] = self.registry.get_model_version(versions.MODEL, number).tags
        return tags


@pytest.fixture
def project(
    stack: tuple[Path, Servers, list[str]],
    empty_store: Path,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    (root, servers, variables), beside = stack, tmp_path_factory.mktemp("beside")
    for name in ("var/lib/model/rollout.json", "var/lib/model/history.jsonl", "pid", "etc/model/release.json"):
        (root / name).unlink(missing_ok=True)
    servers.ready.clear()
    shutil.copy(empty_store, beside / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{beside / 'mlflow.db'}")
    # In place of Ansible: what it does is tested on hosts. It delivers the release, and starts the rollout.
    playbook = beside / "ansible-playbook"
    playbook.write_text(
        f"#!{sys.executable}\nimport json, os, subprocess, sys, yaml\n"
        "subprocess.run(os.environ.get('MEANWHILE', 'true'), shell=True)\n"
        "release = yaml.safe_load(open(sys.argv[-1].replace('ansible/site.yml', 'release.yaml')))\n"
        "name = release['spec']['release']\n"
        "release['spec'].update(json.loads(os.environ.get('DESCRIBED', '{}')))\n"
        f"open('{root}/etc/model/release.json', 'w').write(json.dumps(release))\n"
        f"os.environ.update(ROLLOUT_ROOT='{root}', ROLLOUT_PROMETHEUS='http://{servers.address}:9090')\n"
        f"command, journal = [sys.executable, '{ROLLOUT}', 'run', name], open('{root}/journal', 'w')\n"
        "started = subprocess.Popen(command, stdout=journal, stderr=journal, start_new_session=True)\n"
        f"open('{root}/pid', 'w').write(str(started.pid))\n"
    )
    playbook.chmod(0o755)
    monkeypatch.setenv("PATH", f"{beside}{os.pathsep}{os.environ['PATH']}")
    return Project(root, servers, variables, store.client())


def told(command: click.Command) -> tuple[int, str]:
    """Exit status and output of a command."""
    done = CliRunner().invoke(command)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_a_release_is_deployed_and_the_next_one_undone(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    first = project.release("1")
    project.servers.ready[3201] = first  # the slot that is idle at first
    assert deploy.deploy() == f"my_experiment/1, release {first}, serves all requests: alias production"
    assert project.alias() == "1"
    assert project.tags("1")["release"] == first
    followed = capfd.readouterr().out
    assert f"  0 %, preparing: {first}\n" in followed and f"  0 %, warm: {first} serves all requests\n" in followed
    code, report = told(status.command)
    assert code == 0, report
    assert f"serves        {first} (green)" in report

    second = project.release("2")
    code, report = told(status.command)
    assert code == 3 and f"{first} serves, deploy/release.yaml has {second}\n" in report and "alias" not in report
    (project.root / "etc/model/release.json").write_text(json.dumps(yaml.safe_load(PATH.read_text())))
    assert f"has {second}, which the hosts know: a deployment prepares it, or" in told(status.command)[1]
    project.servers.ready[3101] = second
    deploy.deploy()
    assert project.alias() == "2"
    assert told(status.command)[0] == 0
    assert versions.of_release(second) == "my_experiment/2"

    message = undo.undo()
    assert message.startswith(f"{first} serves all requests instead of {second}; next")
    assert description.require().spec.release == first
    code, report = told(status.command)
    assert code == 3
    assert "differs: deploy/release.yaml is not committed" in report
    with pytest.raises(UserError, match=r"deploy/release\.yaml is not committed: a deployment is a commit"):
        deploy.deploy()
    commit()
    deploy.deploy()
    assert project.alias() == "1"
    assert told(status.command)[0] == 0
    with pytest.raises(UserError, match="lb: nothing to undo"):
        undo.undo()


def test_a_rollout_is_aborted(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    first = project.release("1")
    project.servers.ready[3201] = first
    deploy.deploy()
    assert abort.abort() == f"no rollout is under way: {first} serves all requests"
    second = project.release("2")
    failures: list[str] = []

    def run() -> None:
        try:
            deploy.deploy()
        except UserError as error:
            failures.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()  # its container never gets ready
    wait(lambda: told(status.command)[0] == 2)
    third = project.release("3")
    with pytest.raises(
        UserError, match=f"^{second} is on its way, with 0.0% of the requests: wait for its end, or run"
    ):
        deploy.deploy()
    project.release("2")
    report = told(status.command)[1]
    assert third not in report and f"candidate     {second}, 0.0% of the requests" in report
    assert abort.abort() == f"the rollout of {second} is aborted: {first} serves all requests"
    thread.join(20)
    assert failures == [f"my_experiment/2, release {second}, was rolled back: aborted by hand"]
    assert project.alias() == "1"
    assert project.tags("2")["rolled_back"] == "aborted by hand"
    code, report = told(status.command)
    assert code == 3
    assert "which was rolled back: aborted by hand" in report and "alias" not in report
    with pytest.raises(UserError, match="was rolled back"):
        deploy.deploy()
    project.servers.ready[3101] = second
    deploy.deploy(again=True)
    assert project.alias() == "2"


def test_a_release_that_is_not_the_registered_model_is_refused(project: Project) -> None:
    project.release("1")
    PATH.write_text(PATH.read_text().replace("1" * 64 + '"\n  replicas', "9" * 64 + '"\n  replicas'))
    commit()
    with pytest.raises(UserError, match=r"my_experiment/1 with the model 999999999999, and the registry 111111111111"):
        deploy.deploy()


def test_what_changes_during_a_deployment_is_for_the_next_one(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project.servers.ready[3201] = first = project.release("1")
    monkeypatch.setenv("MEANWHILE", f"echo changed >{PATH}")
    assert deploy.deploy().startswith(f"my_experiment/1, release {first}, serves all requests")
    assert PATH.read_text() == "changed\n"


def test_the_reason_of_the_controller_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = project.release("1")
    monkeypatch.setattr(fleet, "PATIENCE", 0.0)
    monkeypatch.setenv("DESCRIBED", json.dumps({"release": "another"}))
    with pytest.raises(UserError, match=f"^lb: release.json describes another, not {first}$"):
        deploy.deploy()
    assert project.alias() is None


def test_a_release_that_no_request_reaches_is_no_success(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    project.servers.ready[3201] = first = project.release("1")
    deploy.deploy()
    project.servers.ready.clear()
    wait(lambda: told(status.command)[0] == 3)
    assert f"differs: no request reaches {first}: a-1 is down: " in told(status.command)[1]
    monkeypatch.setattr(fleet, "PATIENCE", 0.5)
    with pytest.raises(UserError, match=f"release {first}, should serve, and no request reaches it: a-1 is down: "):
        deploy.deploy()


def test_undo_names_what_is_in_the_place_of_the_release_before(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.servers.ready[3201] = first = project.release("1")
    deploy.deploy()
    project.servers.ready[3101] = project.release("2")
    deploy.deploy()
    project.servers.ready[3201] = "a third one"
    with pytest.raises(
        UserError, match=f"^lb: {first} does not run any more: green holds a third one; to have it back"
    ):
        undo.undo()
    del project.servers.ready[3201]
    with pytest.raises(UserError, match=f"^lb: {first} does not run: `systemctl start model@green-1` on the servers"):
        undo.undo()


def test_what_would_take_production_down_is_refused_before_anything_is_changed(project: Project) -> None:
    project.release("1")
    (project.root / "etc/model/release.json").unlink(missing_ok=True)
    change("address", "10.0.0.9", "servers", "a")
    commit()
    with pytest.raises(
        UserError, match=r"^deploy/hosts\.yaml: a has the address 10\.0\.0\.9, which is none of that host"
    ):
        deploy.deploy()
    change("address", "10.0.0.2", "servers", "a")
    fleet.CERTIFICATE.parent.mkdir(parents=True)
    for content, problem in {
        "": "has no CERTIFICATE",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n": "has no PRIVATE KEY",
        "-----END CERTIFICATE-----\n-----END PRIVATE KEY-----\n": "is wrong: its key is not that of its first",
    }.items():
        fleet.CERTIFICATE.write_text(content)
        with pytest.raises(UserError, match=rf"^deploy/secrets/balancer/tls\.pem {problem}"):
            deploy.deploy()
    assert not (project.root / "etc/model/release.json").exists()


def test_what_is_known_here_is_shown_without_the_hosts(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    project.release("1")
    change("ansible_port", 1)
    callback = status.command.callback
    assert callback
    with pytest.raises(UserError, match="cannot be reached over SSH"):
        callback()
    report = capfd.readouterr().out
    assert "champion      none" in report and "release.yaml  my_experiment/1, release 111111111111" in report


def change(name: str, value: Any, group: str = "balancer", host: str = "lb") -> None:
    """Changes a variable of a host."""
    content = yaml.safe_load(hosts.PATH.read_text())
    content["all"]["children"][group]["hosts"][host][name] = value
    hosts.PATH.write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("ansible_port", 1, "Connection refused"),
        ("ansible_ssh_private_key_file", "/dev/null", "Permission denied"),
        ("ansible_ssh_common_args", "-o UserKnownHostsFile=/dev/null", "Host key verification failed"),
        ("ansible_host", "nowhere.invalid", "Could not resolve hostname"),
    ],
)
def test_a_host_that_cannot_be_reached_is_one_line(project: Project, name: str, value: Any, problem: str) -> None:
    change(name, value)
    for verb in (abort.abort, undo.undo, lambda: hosts.state(hosts.read().balancer)):
        with pytest.raises(UserError) as caught:
            verb()
        line = str(caught.value)
        assert line.startswith("lb (") and problem in line and "see deploy/hosts.yaml" in line and "\n" not in line
