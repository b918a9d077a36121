"""Plain hosts as the target of a delivery: Ansible or Puppet brings a release, the balancer's controller moves it."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core import programs
from ..core.errors import UserError
from ..core.paths import NAME
from ..core.text import percent
from ..tracking import git
from . import description, hosts
from .hosts import Host
from .target import RESTING, State, is_served, serving

FOLDER = Path("deploy")
SECRETS = FOLDER / "secrets"  # not in a commit
CERTIFICATE = SECRETS / "balancer" / "tls.pem"
ANSIBLE, PUPPET = FOLDER / "ansible" / "site.yml", FOLDER / "puppet" / "apply.sh"
# In an environment of its own, unless there is one: Ansible is no dependency of the pipeline.
ISOLATED = (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", "ansible-core>=2.18", "ansible-playbook")
LONGEST_POLL = 5.0  # seconds between two looks at a rollout; the first ones follow sooner
PATIENCE = 10.0  # seconds for HAProxy to see that containers are ready


def reach(release: str, again: bool) -> None:
    """Returns if all hosts answer, have the addresses that are described, and no other release is on its way.

    Args:
        release: Name of the release.
        again: Whether to try a release again that was rolled back.

    Raises:
        UserError: If that is not so; nothing was changed.
    """
    found = hosts.read()
    tool(Path())
    _require_certificate()
    hosts.require_own_addresses(found)
    _, told = _look(found.balancer, release)
    candidate = told.get("candidate")
    if candidate not in (None, "", release) and told["until"] > time.time():
        raise UserError(
            f"{candidate} is on its way, with {percent(told['share'] / 10000)} of the requests: wait for its end, or "
            f"run `python -m {NAME} abort`"
        )
    if told.get("refused") == release and not again:
        raise UserError(
            f"{release} was rolled back: {told.get('reason')}; release another one, or try it again with --again"
        )


def _require_certificate() -> None:
    """Returns if the certificate of the balancer, if there is one, is one that HAProxy takes."""
    try:
        content = CERTIFICATE.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for what in ("CERTIFICATE", "PRIVATE KEY"):
        if f"{what}-----" not in content:
            raise UserError(f"{CERTIFICATE} has no {what}: it takes the chain of certificates and their key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(CERTIFICATE, password="-")  # or it would ask a person
    except (OSError, ValueError) as error:
        raise UserError(
            f"{CERTIFICATE} is wrong: its key is not that of its first certificate, or has a passphrase ({error})"
        ) from None


def bring(commit: str, again: bool) -> int:
    """The exit status of the tool, at the end of the rollout that it starts.

    Args:
        commit: The commit that is deployed.
        again: Whether to try a release again that was rolled back.

    Raises:
        UserError: If the project has no tool, the balancer does not answer, or its controller refuses the release.
    """
    balancer = hosts.read().balancer
    if again:
        hosts.rollout(balancer, "again")
    with _snapshot(commit) as folder:
        release = description.parse((folder / description.PATH).read_text(encoding="utf-8")).spec.release
        _, before = _look(balancer, release)
        command = [str(word) for word in tool(folder)]
        print(f"+ {' '.join(command)}", flush=True)
        if status := subprocess.run(command, check=False).returncode:
            return status
    history = before.get("history") or [{"time": 0.0}]
    ended = _follow(balancer, release, history[-1]["time"])
    if serving(ended) != release and ended.get("refused") != release:
        raise UserError(f"{balancer.name}: {_reason(balancer, release)}")
    return 0


@contextmanager
def _snapshot(commit: str) -> Iterator[Path]:
    """The project as a commit has it, with the secrets: the tool reads files for minutes, while people change them."""
    with tempfile.TemporaryDirectory(prefix="deploy-") as folder:
        archive, place = Path(folder, "archive.tar"), Path(folder, "project")
        git.run("archive", "--format=tar", f"--output={archive}", commit)
        with tarfile.open(archive) as packed:
            packed.extractall(place, filter="tar")
        if SECRETS.is_dir() and not (place / SECRETS).exists():
            (place / SECRETS).symlink_to(SECRETS.resolve())
        (place / ".venv").symlink_to(sys.prefix)  # apply.sh reads hosts.yaml by this package
        yield place


def _unit(release: str) -> str:
    return f"model-rollout@{release}.service"


def _look(balancer: Host, release: str) -> tuple[bool, State]:
    """Whether the rollout of a release runs on the balancer, and the state there; a bare host has none."""
    script = (
        f"systemctl show --property=ActiveState --value {_unit(release)}; "
        f"[ ! -x {hosts.PROGRAM} ] || exec {hosts.PROGRAM} status --json"
    )
    done = hosts.run(balancer, "sh", "-c", script)
    if done.returncode:
        raise UserError(f"{balancer.name}: {programs.reason(done).removeprefix('error: ')}")
    active, _, told = done.stdout.partition("\n")
    state: State = hosts.parsed(balancer, told) if told.strip() else {}
    return active.strip() not in ("inactive", "failed"), state


def _reason(balancer: Host, release: str) -> str:
    """Why the controller did nothing, in its own words."""
    unit = _unit(release)
    # After it, systemd says up to three things: a line before them is of an earlier run.
    done = hosts.run(balancer, "journalctl", "--unit", unit, "--lines", "4", "--output", "cat")
    told = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    return told[-1].removeprefix("error: ") if told else f"{release} is not rolled out: see `journalctl --unit {unit}`"


def _follow(balancer: Host, release: str, since: float) -> State:
    """The state at the end of a rollout, each event and each change of a verdict of which is a line.

    Args:
        balancer: The balancer.
        release: The release.
        since: Time of the last event before it.

    Raises:
        UserError: If the balancer does not answer any more; the rollout goes on.
    """
    pause, end, verdicts = 0.25, 0.0, list[tuple[str, int]]()
    while True:
        try:
            is_active, told = _look(balancer, release)
        except UserError as error:
            raise UserError(f"{error}; a rollout goes on without this machine: `python -m {NAME} status`") from None
        for event in told.get("history", []):
            if event["time"] > since:
                since = event["time"]
                print(f"  {event['share'] / 100:g} %, {event['event']}", flush=True)
        judged = [(each["gate"], each["verdict"]) for each in told.get("verdicts", [])]
        if judged and judged != verdicts:  # not each number of theirs
            verdicts = judged
            print(f"  {told['share'] / 100:g} %, {told['told']}", flush=True)
        if not is_active:
            end = end or time.monotonic() + PATIENCE
            if (told.get("state") in RESTING and is_served(told)) or time.monotonic() > end:
                return told
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_POLL)


def tool(folder: Path) -> list[str | Path]:
    """The command that brings the release to the hosts, and starts its rollout.

    Args:
        folder: Folder of the project.

    Raises:
        UserError: If the project has no tool.
    """
    if (folder / ANSIBLE).exists():
        playbook = ["ansible-playbook"] if shutil.which("ansible-playbook") else [*ISOLATED]
        return [*playbook, "-i", folder / hosts.PATH, folder / ANSIBLE]
    if (folder / PUPPET).exists():
        return ["bash", folder / PUPPET]
    raise UserError(f"there is neither {ANSIBLE} nor {PUPPET}: `cruft update` brings what the question `deploy` chose")


def state() -> State:
    """Where the rollout is, as the balancer tells it."""
    return hosts.state(hosts.read().balancer)


def abort() -> None:
    """Gives all requests to the stable release."""
    hosts.rollout(hosts.read().balancer, "abort")


def undo() -> None:
    """Gives all requests to the release before."""
    hosts.rollout(hosts.read().balancer, "undo")
