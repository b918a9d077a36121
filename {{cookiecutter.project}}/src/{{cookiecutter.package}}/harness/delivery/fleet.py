"""Plain hosts as the target of a delivery: Ansible or Puppet brings a release, the balancer's controller moves it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from ..core.errors import UserError
from . import hosts
from .target import State

FOLDER = Path("deploy")
ANSIBLE, PUPPET = FOLDER / "ansible" / "site.yml", FOLDER / "puppet" / "apply.sh"
# In an environment of its own, unless there is one: Ansible is no dependency of the pipeline.
ISOLATED = (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", "ansible-core>=2.18", "ansible-playbook")


def reach() -> None:
    """Returns if the balancer answers; a bare host has nothing else to say.

    Raises:
        UserError: If it cannot be reached.
    """
    hosts.run(hosts.read().balancer, "true")


def bring(again: bool) -> int:
    """The exit status of the tool, which follows the rollout.

    Args:
        again: Whether to try a release again that was rolled back.

    Raises:
        UserError: If the project has no tool, or the balancer does not answer.
    """
    balancer, command = hosts.read().balancer, tool()
    if again:
        hosts.rollout(balancer, "again")
    print(f"+ {' '.join(map(str, command))}", flush=True)
    return subprocess.run([str(word) for word in command], check=False).returncode


def tool() -> list[str | Path]:
    """The command that brings the release to the hosts, follows its rollout, and fails if it is rolled back.

    Raises:
        UserError: If the project has no tool.
    """
    if ANSIBLE.exists():
        playbook = ["ansible-playbook"] if shutil.which("ansible-playbook") else [*ISOLATED]
        return [*playbook, "-i", hosts.PATH, ANSIBLE]
    if PUPPET.exists():
        return ["bash", PUPPET]
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
