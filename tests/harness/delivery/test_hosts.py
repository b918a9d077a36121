"""deploy/hosts.yaml: the hosts, and a line for each thing that is wrong with them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import hosts
from support import ROOT


def write(change: Any = None) -> None:
    """Writes an inventory of one balancer and two servers, changed."""
    content: dict[str, Any] = {
        "all": {
            "vars": {"ansible_user": "root", "ansible_port": 2222},
            "children": {
                "balancer": {"hosts": {"lb": {"ansible_host": "lb.example.org", "address": "10.0.0.1"}}},
                "servers": {
                    "vars": {"ansible_user": "deploy"},
                    "hosts": {"a": {"address": "10.0.0.2", "ansible_port": 22}, "b": {"address": "10.0.0.3"}},
                },
            },
        }
    }
    if change:
        change(content["all"])
    hosts.PATH.parent.mkdir(exist_ok=True)
    hosts.PATH.write_text(yaml.safe_dump(content))


def test_variables_of_a_host_come_before_those_of_its_group_and_of_all(workspace: Path) -> None:
    write()
    found = hosts.read()
    assert (found.balancer.place, found.balancer.is_root) == ("root@lb.example.org", True)
    assert [each.place for each in found.servers] == ["deploy@a", "deploy@b"]
    ports = [each.options[each.options.index("-p") + 1] for each in (found.balancer, *found.servers)]
    assert ports == ["2222", "22", "2222"]


def test_the_file_of_a_new_project_is_read(workspace: Path) -> None:
    hosts.PATH.parent.mkdir()
    shutil.copy(ROOT / hosts.PATH, hosts.PATH)
    assert [each.name for each in hosts.read().servers] == ["app1", "app2"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda all_: all_.update(hosts={}), "all has an unknown key 'hosts'"),
        (lambda all_: all_["children"].update(server={}), "'server'; did you mean 'servers'"),
        (
            lambda all_: all_["children"]["balancer"].update(hosts=None),
            "all.children.balancer.hosts is empty: hosts",
        ),
        (lambda all_: all_["children"].update(servers=None), "all.children.servers is empty: `hosts:` and `vars:`"),
        (lambda all_: all_["children"]["servers"].update(hosts=[{"a": None}]), "hosts is a list: hosts are expected"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(lb=None), "lb has no `address`"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(lb={"address": "10.0.0.9"}), "lb has another `addre"),
        (
            lambda all_: all_["children"]["servers"]["hosts"].update({"c d": {"address": "10.0.0.4"}}),
            "has 'c d': a ",
        ),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={"address": "10.0.0.2"}), "a and c have the same"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={"address": "127.0.0.1"}), "no other host can"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={"address": "10.0.0.4:22"}), "without a port"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={"address": ["10.0.0.4"]}), "c.address is ['10"),
        (lambda all_: all_["vars"].update(address="10.0.0.4"), "move it to the host"),
        (lambda all_: all_["vars"].update(ansible_port="ssh"), "all.vars.ansible_port is 'ssh': a port"),
        (lambda all_: all_["vars"].update(ansible_ssh_common_args="-o 'A"), "of lb cannot be split into words: no clo"),
        (lambda all_: all_["children"]["balancer"]["hosts"].update(c={"address": "10.0.0.4"}), "it takes exactly one"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={}), "c has no `address`"),
        (lambda all_: all_["children"]["servers"]["hosts"].update(c={"addressed": "1"}), "did you mean 'address'"),
    ],
)
def test_what_is_wrong_is_one_line(workspace: Path, change: Any, problem: str) -> None:
    write(change)
    with pytest.raises(UserError) as caught:
        hosts.read()
    told = str(caught.value)
    assert told.startswith("deploy/hosts.yaml: ") and problem in told and "\n" not in told


def test_a_host_of_both_groups_has_the_variables_of_both(workspace: Path) -> None:
    write(lambda all_: all_["children"]["servers"]["hosts"].update(lb={"address": "10.0.0.1", "ansible_port": 7}))
    found = hosts.read()
    assert found.balancer == found.servers[-1]
    assert (found.balancer.place, found.balancer.options[-1]) == ("deploy@lb.example.org", "7")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty: `all:` is expected"),
        (b"{}", "all is empty: "),
        (b"# M\xfcller", "no text in UTF-8"),
        (b"\0", "is not YAML"),
        (b"all:\n  vars: {}\n  vars: {}\n", "vars is there twice, again in line 3"),
    ],
)
def test_a_file_that_is_no_inventory_is_one_line(workspace: Path, content: bytes, problem: str) -> None:
    hosts.PATH.parent.mkdir()
    hosts.PATH.write_bytes(content)
    with pytest.raises(UserError) as caught:
        hosts.read()
    assert str(hosts.PATH) in str(caught.value) and problem in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"there is no deploy/hosts.yaml"):
        hosts.read()
