"""deploy/hosts.yaml: the hosts, and what they answer over SSH."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from ..core import programs
from ..core.errors import UserError, choice, one_line
from ..core.paths import NAME
from . import written

PATH = Path("deploy/hosts.yaml")
GROUPS = BALANCER, SERVERS = "balancer", "servers"
PROGRAM = "/usr/local/lib/model/rollout.py"  # of the balancer
NAMES = re.compile("[A-Za-z0-9][A-Za-z0-9.-]*")  # of hosts
KINDS = {type(None): "empty", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
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
    try:
        everything = written.content(written.text(PATH), str(PATH))
    except FileNotFoundError:
        raise UserError(f"there is no {PATH}: docs/hosts.md has an example") from None
    top = _keys(_keys(everything, "the file", ["all"]).get("all"), "all", ["vars", "children"])
    groups = _keys(top.get("children"), "all.children", GROUPS)
    common = _variables(top.get("vars") or {}, "all.vars")
    members: dict[str, Sequence[str]] = {}
    shared, own = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    for group in GROUPS:
        variables, hosts = _group(groups.get(group), f"all.children.{group}")
        members[group] = [*hosts]
        for name, values in hosts.items():  # as Ansible does it for a host of two groups
            shared[name] = {**shared.get(name, common), **variables}
            if own.get(name, values)["address"] != values["address"]:
                raise UserError(f"{PATH}: {name} has another `address` in balancer than in servers: write the same")
            own[name] = {**own.get(name, {}), **values}
    _require_addresses({name: values["address"] for name, values in own.items()})
    if len(members[BALANCER]) != 1:
        raise UserError(f"{PATH}: all.children.balancer.hosts has {len(members[BALANCER])} hosts: it takes exactly one")
    found = {name: _host(name, {**shared[name], **values}) for name, values in own.items()}
    return Hosts(found[members[BALANCER][0]], [found[name] for name in members[SERVERS]])


def _kind(content: Any) -> str:
    return KINDS.get(type(content), "a mapping")


def _keys(content: Any, place: str, known: Sequence[str]) -> Mapping[str, Any]:
    words = " and ".join(f"`{key}:`" for key in known)
    if not isinstance(content, Mapping):
        raise UserError(f"{PATH}: {place} is {_kind(content)}: {words} is expected there, as in docs/hosts.md")
    for key in content:
        if key not in known:
            raise UserError(f"{PATH}: {place} has an unknown key {key!r}; {choice(str(key), known)}")
    return content


def _group(content: Any, place: str) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Any]]]:
    """Variables of a group, and of each of its hosts."""
    content = _keys(content, place, ["hosts", "vars"])
    hosts = content.get("hosts")
    if not isinstance(hosts, Mapping) or not hosts:
        kind = "empty" if hosts == {} else _kind(hosts)
        raise UserError(f"{PATH}: {place}.hosts is {kind}: hosts are expected, such as `app1: {{address: 10.0.0.11}}`")
    for name, values in hosts.items():
        if not isinstance(name, str) or not NAMES.fullmatch(name):
            raise UserError(f"{PATH}: {place}.hosts has {name!r}: a name has letters, digits, dots and hyphens only")
        _require_address(name, values, f"{place}.hosts.{name}")
    return _variables(content.get("vars") or {}, f"{place}.vars"), hosts


def _require_address(name: str, values: Any, place: str) -> None:
    values = _variables({} if values is None else values, place, "address")
    if values.get("address") is None:
        raise UserError(
            f"{PATH}: {place} has no `address`, at which the other hosts reach it: write "
            f"`{name}: {{address: 10.0.0.11}}` in each group that has it"
        )
    try:
        usable = isinstance(values["address"], str) and not IPv4Address(values["address"]).is_unspecified
    except ValueError:
        usable = False
    if not usable:
        told = one_line(repr(values["address"]), 60)
        raise UserError(f"{PATH}: {place}.address is {told}: an IPv4 address without a port is expected, as 10.0.0.11")


def _require_addresses(addresses: Mapping[str, str]) -> None:
    names: dict[str, str] = {}
    for name, address in addresses.items():
        if other := names.get(address):
            raise UserError(f"{PATH}: {other} and {name} have the same address {address}: give each its own")
        if IPv4Address(address).is_loopback and len(addresses) > 1:
            raise UserError(f"{PATH}: {name} has the address {address}, at which no other host can reach it")
        names[address] = name


def _variables(values: Any, place: str, *more: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        example = f"`{USER}: root`"
        raise UserError(f"{PATH}: {place} is {_kind(values)}: variables are expected, such as {example}")
    for key, value in values.items():
        if key == "address" and key not in more:
            raise UserError(f"{PATH}: {place} has `address`, and each host needs one of its own: move it to the host")
        if key not in more and not str(key).startswith("ansible_"):
            raise UserError(f"{PATH}: {place} has an unknown key {key!r}; {choice(str(key), [*more, HOST, USER])}")
        if key in (HOST, USER, KEY, ARGUMENTS) and not isinstance(value, str):
            raise UserError(f"{PATH}: {place}.{key} is {_kind(value)}: a text is expected")
        if key == PORT and not re.fullmatch("[1-9][0-9]{0,4}", str(value)):
            raise UserError(f"{PATH}: {place}.{key} is {one_line(repr(value), 60)}: a port is expected, such as 22")
    return values


def _host(name: str, values: Mapping[str, Any]) -> Host:
    user, options = values.get(USER), [*OPTIONS]
    for option, variable in (("-p", PORT), ("-i", KEY)):
        if value := values.get(variable):
            options += [option, str(Path(str(value)).expanduser())]
    try:
        options += shlex.split(values.get(ARGUMENTS, ""))
    except ValueError as error:
        reason = str(error).lower()
        raise UserError(f"{PATH}: {ARGUMENTS} of {name} cannot be split into words: {reason}") from None
    place = f"{user}@{values.get(HOST, name)}" if user else str(values.get(HOST, name))
    return Host(name, place, options, user in (None, "root"), values["address"])


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
        reason = one_line(programs.reason(done)).rstrip(".:")
        by_hand = shlex.join(["ssh", *host.options[len(OPTIONS) :], host.place])
        raise UserError(
            f"{host.name} ({host.place}) cannot be reached over SSH: {reason}; see {PATH}, and run `{by_hand}` once by "
            "hand: unknown hosts and passwords are refused here"
        )
    if done.returncode == ABSENT:
        raise UserError(f"{host.name} ({host.place}) has no {command[0]}: run `python -m {NAME} deploy` first")
    return done


def require_own_addresses(found: Hosts) -> None:
    """Returns if the `address` of each host is its own: HAProxy, containers and firewalls of all hosts follow it.

    Args:
        found: The hosts.

    Raises:
        UserError: If one has another address, or cannot be reached.
    """
    everybody = [*{each.name: each for each in (found.balancer, *found.servers)}.values()]
    with ThreadPoolExecutor(32) as pool:
        answers = [*pool.map(lambda each: run(each, "hostname", "--all-ip-addresses"), everybody)]
    for each, done in zip(everybody, answers, strict=True):
        if done.returncode:
            reason = one_line(programs.reason(done))
            raise UserError(f"{each.name} ({each.place}) does not tell its addresses: {reason}")
        own = [word for word in done.stdout.split() if ":" not in word]
        if each.address not in own and not IPv4Address(each.address).is_loopback:
            raise UserError(
                f"{PATH}: {each.name} has the address {each.address}, which is none of that host: {each.place} has "
                f"{one_line(', '.join(own), 100) or 'none'}; nothing was changed"
            )


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
    return parsed(balancer, rollout(balancer, "status", "--json"))


def parsed(balancer: Host, told: str) -> dict[str, Any]:
    """What the controller tells, from its text.

    Args:
        balancer: The balancer.
        told: What it has printed.

    Raises:
        UserError: If that is no state.
    """
    try:
        content: dict[str, Any] = json.loads(told)
        _ = content["release"].get(content["stable"]), content["state"], content["share"]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{balancer.name}: {PROGRAM} answers {one_line(told, 100)!r}, which is no state") from None
    return content
