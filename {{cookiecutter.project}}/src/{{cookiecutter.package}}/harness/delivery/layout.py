"""What rollout.py and host.py agree on: folders, slots and ports of hosts, and how files are read and written there.

This file is copied to all hosts, beside these programs, and imports the standard library alone (Python 3.9).
ROLLOUT_ROOT is put before /etc and /var/lib.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

ROOT = os.environ.get("ROLLOUT_ROOT", "")
ETC, STATE = Path(f"{ROOT}/etc/model"), Path(f"{ROOT}/var/lib/model")
MAP = STATE / "slots.map"  # what HAProxy follows
PORTS, OTHER = {"blue": 3100, "green": 3200}, {"blue": "green", "green": "blue"}
OF_MAP = re.compile(r"(stable) (blue|green)|(share|until) \d+|(candidate|refused) \S+")  # a line
WAITS = r'"pause": {"duration": "(?P<number>\d+)(?P<unit>[smh])"}'
STEP = re.compile(f'{{("setWeight": (\\d\\d?|100)|{WAITS}|"analysis": {{[^}}]+}}[^}}]+}})}}')  # as JSON
T = TypeVar("T")


class Refused(Exception):
    """A reason, in one line, for which a command does not do what it was asked for."""


def read(path: Path) -> str:
    """The text of a file that a deployment writes."""
    try:
        return path.read_text()
    except FileNotFoundError:
        raise Refused(f"{path} does not exist: deploy first") from None
    except ValueError:
        raise Refused(f"{path} is wrong: it is no text") from None


def load(path: Path, expected: str, taken: Callable[[Any], T | None]) -> T:
    """What is taken from a JSON file, which a person may have changed; None if that is not as expected."""
    text = read(path)
    try:
        found = taken(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        found = None
    if found is None:
        raise Refused(f"{path} is wrong: {expected}")
    return found


def lines(path: Path, expected: str, taken: Callable[[str], T | None], grows: bool = False) -> list[T]:
    """What is taken from each line of a file; the last one of a file that grows may be unfinished, and is left out."""
    text, found = read(path), []
    for number, line in enumerate(text[: text.rfind("\n") + 1 if grows else None].splitlines(), 1):
        try:
            content = taken(line)
        except ValueError:
            content = None
        if content is None:
            raise Refused(f"{path}, line {number}, is wrong: {expected}")
        found.append(content)
    return found


def put(path: Path, text: str) -> None:
    """Puts a file in place at once and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def add(path: Path, line: str) -> None:
    """Adds a line to a file, in place of one that a crash has left unfinished."""
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(f"{line}\n".encode())


def mapped(stable: str = "blue", share: int = 0, until: int = 0, candidate: str = "", refused: str = "") -> str:
    """The map: the stable slot, the share of the other one, of 10000, and when that ends; two releases, if any."""
    text = f"stable {stable}\nshare {share}\nuntil {until}\n"
    return text + f"candidate {candidate or '-'}\nrefused {refused or '-'}\n"


def slots() -> dict[str, str]:
    """The map that HAProxy follows; a balancer that was never configured has none."""
    if not MAP.exists():
        return {"share": "0", "until": "0"}
    expected = "`stable blue` (or green), `share 0`, `until 0`, `candidate -` and `refused -` are such lines"
    found = lines(MAP, expected, lambda line: line.split(" ", 1) if OF_MAP.fullmatch(line) else None)
    return {"share": "0", "until": "0", **dict(found)}


def addresses(group: str) -> dict[str, str]:
    """Names and addresses of the hosts of a group."""

    def taken(content: Any) -> dict[str, str] | None:
        found = {name: host["address"] for name, host in content["all"]["children"][group]["hosts"].items()}
        return found if found and all(address and isinstance(address, str) for address in found.values()) else None

    return load(ETC / "hosts.json", f"all.children.{group}.hosts has to name hosts, each with an address", taken)


def containers(slot: str, replicas: int) -> dict[str, str]:
    """Names and addresses of the containers of a slot, on all servers."""
    numbers, hosts = range(1, replicas + 1), addresses("servers").items()
    return {f"{name}-{n}": f"{address}:{PORTS[slot] + n}" for name, address in hosts for n in numbers}


def pause(step: dict[str, Any]) -> int:
    """How many seconds a step takes at least."""
    match = STEP.fullmatch(json.dumps(step))
    if match is None:
        raise Refused(f"{json.dumps(step)} in release.json is none of the steps setWeight, pause and analysis")
    return int(match["number"] or 0) * {"s": 1, "m": 60, "h": 3600}[match["unit"] or "s"]


def described() -> dict[str, Any]:
    """The release that is described, if all of it can be done."""
    kinds: dict[str, type] = {"release": str, "image": str, "memory": str, "steps": list}
    kinds.update(dict.fromkeys(("replicas", "startSeconds", "deadlineSeconds"), int))

    def taken(content: Any) -> dict[str, Any] | None:
        spec: dict[str, Any] = {"startSeconds": 80, **content["spec"]}
        fits = all(type(spec[name]) is kind for name, kind in kinds.items()) and spec["replicas"] > 0
        fits = fits and isinstance(spec["model"]["sha256"], str) and all(pause(step) >= 0 for step in spec["steps"])
        return spec if fits else None

    expected = "spec has to have release, image, memory, model.sha256, a list of steps, replicas and deadlineSeconds"
    return load(ETC / "release.json", expected, taken)


def named() -> str:
    """The release that is described; "" if none is."""
    try:
        return str(described()["release"])
    except Refused:
        return ""
