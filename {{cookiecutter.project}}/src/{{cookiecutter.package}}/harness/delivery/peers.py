"""Whom the controller of a delivery asks: HAProxy, which follows the map, Prometheus, which judges, and containers.

This file is copied to the balancer, beside rollout.py, and imports the standard library alone (Python 3.9).
ROLLOUT_PROMETHEUS is the address of Prometheus.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import layout
else:  # on a host there is no package
    import layout

SOCKET = f"{layout.ROOT}/run/haproxy/admin.sock"
PROMETHEUS = os.environ.get("ROLLOUT_PROMETHEUS", "http://127.0.0.1:9090")
NUMBERS = ("verdict", "requests", "bad", "needed")


def get(url: str) -> tuple[str, str]:
    """Header x-release and body of an answer 200; both are empty without one."""
    with contextlib.suppress(OSError, ValueError, HTTPException), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.headers.get("x-release", ""), answer.read().decode()
    return "", ""


def lacking(containers: Mapping[str, str], release: str) -> list[str]:
    """The containers, of names and addresses, that are not ready with a release."""
    with ThreadPoolExecutor(32) as pool:  # a host that is gone costs the time of one, not of all its containers
        answers = {name: pool.submit(get, f"http://{address}/readyz") for name, address in containers.items()}
        return [name for name, answer in answers.items() if not release or answer.result()[0] != release]


def haproxy(command: str) -> str:
    """What HAProxy answers to a command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(SOCKET)
        connection.sendall(command.encode() + b"\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode().strip()


def publish(text: str) -> bool:
    """Writes the map and commits it to HAProxy in one transaction; says whether HAProxy has it."""
    layout.put(layout.MAP, text)
    with contextlib.suppress(OSError):  # HAProxy does not run: it will read the file
        version = re.search(r"version created: (\d+)", haproxy(f"prepare map {layout.MAP}"))
        if version and not haproxy(f"add map @{version[1]} {layout.MAP} <<\n{text}"):
            return not haproxy(f"commit map @{version[1]} {layout.MAP}")
    return False


def reached(slot: str) -> dict[str, Any]:
    """How many containers of a slot HAProxy reaches, and which ones it does not, with its reason."""
    up, away = 0, []
    try:
        told = haproxy("show stat").lstrip("# ")
    except OSError:
        return {"up": 0, "away": [f"HAProxy does not answer at {SOCKET}"]}
    for row in csv.DictReader(told.splitlines()):
        name, state = row["svname"], row["status"]
        if row["pxname"] != slot or name in ("FRONTEND", "BACKEND") or name.endswith("-anyway"):
            continue
        if state.startswith("UP"):
            up += 1
        else:
            away.append(f"{name} is {state.lower()}: {row['last_chk'].lstrip('* ') or row['check_desc']}")
    return {"up": up, "away": away}


def gone(release: str, slot: str, containers: Mapping[str, str]) -> str:
    """Why a release that has served cannot serve again from its slot, and what to do."""
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(lambda address: get(f"http://{address}/readyz")[0], containers.values())
    if held := " and ".join(sorted({*answers} - {"", release})):
        return f"{release} does not run any more: {slot} holds {held}; to have it back, deploy its release.yaml"
    return f"{release} does not run: `systemctl start model@{slot}-1` on the servers, then undo"


def judge(release: str) -> list[dict[str, Any]] | None:
    """The verdicts on a release, with the numbers behind them; None if Prometheus does not answer."""
    selector = f'__name__=~"rollout:({"|".join(NUMBERS)})",release="{release}"'
    _, body = get(f"{PROMETHEUS}/api/v1/query?query={urllib.parse.quote('{' + selector + '}')}")
    gates: dict[str, dict[str, Any]] = {}
    for series in json.loads(body)["data"]["result"] if body else []:
        gate, value = series["metric"]["gate"], float(series["value"][1])
        numbers = gates.setdefault(gate, {"gate": gate, **dict.fromkeys(NUMBERS, 0)})
        numbers[series["metric"]["__name__"].split(":")[1]] = round(value) if math.isfinite(value) else 0
    return [gates[gate] for gate in sorted(gates)] if body else None


def worded(verdicts: list[dict[str, Any]] | None) -> str:
    """Verdicts for a person."""
    if verdicts is None:
        return f"Prometheus does not answer at {PROMETHEUS}"
    texts = []
    for each in verdicts:
        lacks = f" of {each['requests'] + each['needed']} requests needed" if each["needed"] > 0 else " requests"
        numbers = f": {each['requests']}{lacks}, {each['bad']} bad" if each["requests"] or each["needed"] else ""
        texts.append(each["gate"] + {1: " good", 0: " undecided", -1: " bad"}[each["verdict"]] + numbers)
    return "; ".join(texts) or "no verdicts"
