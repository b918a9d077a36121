"""deploy/hosts.yaml: the hosts, and what they answer over SSH."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..core import programs
from ..core.errors import UserError, choice, one_line
from ..core.paths import NAME

PATH = Path("deploy/hosts.yaml")
GROUPS = BALANCER, SERVERS = "balancer", "servers"
PROGRAM = "/usr/local/lib/model/rollout.py"  # of the balancer
# Variables of Ansible that mean something here; others are Ansible's alone.
HOST, USER, PORT, KEY, ARGUMENTS = (
    f"ansible_{name}" for name in ("host", "user", "port", "ssh_private_key_file", "ssh_common_args")
)
# No question to nobody, and no waiting for a host that is away.
OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5"]
UNREACHABLE, ABSENT = 255, 127  # exit statuses of ssh and of a shell


class Host(NamedTuple):
    """A host.

    Attributes:
        name: Its name in hosts.yaml.
        place: User and name or address, as SSH takes them.
        options: Options of ssh.
        is_root: Whether the user is root.
        address: Where the other hosts reach it.
    """

    name: str
    place: str
    options: Sequence[str]
    is_root: bool
    address: str


class Hosts(NamedTuple):
    """All hosts.

    Attributes:
        balancer: The balancer.
        servers: The servers.
    """

    balancer: Host
    servers: Sequence[Host]


def read() -> Hosts:
    """The hosts of hosts.yaml.

    Raises:
        UserError: If the file is missing or wrong.
    """
    import yaml

    try:
        everything: Any = yaml.safe_load(PATH.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {PATH}: docs/hosts.md has an example") from None
    except yaml.YAMLError as error:
        raise UserError(f"{PATH} is not YAML: {one_line(error)}") from None
    top = _keys(everything, "the file", ["all"])["all"]
    top = _keys(top, "all", ["vars", "children"])
    groups = _keys(top.get("children"), "all.children", [*GROUPS])
    common = _variables(top.get("vars") or {}, "all.vars")
    found = {name: _group(groups.get(name), name, common) for name in GROUPS}
    if len(found[BALANCER]) != 1:
        raise UserError(f"{PATH}: all.children.balancer.hosts has {len(found[BALANCER])} hosts: it takes exactly one")
    return Hosts(found[BALANCER][0], found[SERVERS])


def _keys(content: Any, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise UserError(f"{PATH}: {place} is {content!r}: a mapping with {' and '.join(known)} is expected")
    for key in content:
        if key not in known:
            raise UserError(f"{PATH}: {place} has an unknown key {key!r}; {choice(str(key), known)}")
    return content


def _group(content: Any, name: str, common: Mapping[str, Any]) -> list[Host]:
    place = f"all.children.{name}"
    content = _keys(content, place, ["hosts", "vars"])
    own = {**common, **_variables(content.get("vars") or {}, f"{place}.vars")}
    hosts = content.get("hosts")
    if not isinstance(hosts, Mapping) or not hosts:
        raise UserError(f"{PATH}: {place}.hosts is {hosts!r}: name a host at least")
    return [_host(str(host), {**own, **_variables(values, f"{place}.hosts.{host}")}) for host, values in hosts.items()]


def _variables(values: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise UserError(f"{PATH}: {place} is {values!r}: a mapping of variables is expected")
    for key in values:
        if key != "address" and not str(key).startswith("ansible_"):
            raise UserError(f"{PATH}: {place} has an unknown key {key!r}; {choice(str(key), ['address', HOST, USER])}")
    return values


def _host(name: str, values: Mapping[str, Any]) -> Host:
    if not values.get("address"):
        raise UserError(f"{PATH}: {name} has no `address`, at which the other hosts reach it")
    user, options = values.get(USER), [*OPTIONS]
    for option, variable in (("-p", PORT), ("-i", KEY)):
        if value := values.get(variable):
            options += [option, str(Path(str(value)).expanduser())]
    options += shlex.split(str(values.get(ARGUMENTS, "")))
    place = f"{user}@{values.get(HOST, name)}" if user else str(values.get(HOST, name))
    return Host(name, place, options, user in (None, "root"), str(values["address"]))


def run(host: Host, *command: str) -> programs.Process:
    """The completed process of a command on a host, as root.

    Args:
        host: The host.
        *command: Program and arguments.

    Raises:
        UserError: If the host cannot be reached, or the program is not there.
    """
    words = [*([] if host.is_root else ["sudo", "-n"]), *command]
    done = programs.complete("ssh", *host.options, host.place, "--", shlex.join(words))
    if done.returncode == UNREACHABLE:
        reason = one_line(programs.reason(done))
        raise UserError(f"{host.name} ({host.place}) cannot be reached over SSH: {reason}: see {PATH}")
    if done.returncode == ABSENT:
        raise UserError(f"{host.name} ({host.place}) has no {command[0]}: run `python -m {NAME} deploy` first")
    return done


def rollout(balancer: Host, *arguments: str) -> str:
    """The output of a command of the controller on the balancer.

    Args:
        balancer: The balancer.
        *arguments: The command and its arguments.

    Raises:
        UserError: If it refuses, or the host cannot be reached.
    """
    done = run(balancer, PROGRAM, *arguments)
    if done.returncode:
        reason = programs.reason(done).removeprefix("error: ")
        raise UserError(f"{balancer.name}: {one_line(reason)}")
    return done.stdout.rstrip()


def state(balancer: Host) -> dict[str, Any]:
    """Where the rollout is, as the controller tells it.

    Args:
        balancer: The balancer.

    Raises:
        UserError: If it does not tell, or the host cannot be reached.
    """
    told = rollout(balancer, "status", "--json")
    try:
        content: dict[str, Any] = json.loads(told)
        _ = content["release"].get(content["stable"]), content["state"], content["share"]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{balancer.name}: {PROGRAM} answers {one_line(told, 100)!r}, which is no state") from None
    return content
