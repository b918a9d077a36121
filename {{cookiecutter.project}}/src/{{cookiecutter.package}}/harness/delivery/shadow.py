"""The command `shadow`: a new release answers kept requests before it gets any, and its answers are compared.

A container of the release runs beside those of its slot, on one server, where only this command reaches it. So neither
the gates nor the log count its answers: to Prometheus and to the balancer, it does not exist.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import click

from .. import audit
from ..contracts import Description
from ..core import text
from ..core.commands import FILE
from ..core.errors import UserError, one_line
from ..core.paths import NAME
from ..feedback import destination, reading
from ..release import versions
from ..tracking import store
from . import comparison, description, hosts
from .description import Spec
from .hosts import Host
from .target import serving

MARGIN = 0.05  # of the rows, by which disagreements may exceed those on the test split
LAST = 1000  # requests
PORT = 3300  # on the server, at 127.0.0.1; containers of slots have those from 3101 to 3299
CONTAINER = "model-shadow"
HASH = re.compile("[0-9a-f]{32}")  # in place of a private value
START, PATIENCE = 90.0, 10.0  # seconds until the container is ready, and for an answer
MOST_SECONDS = 3600  # after which podman ends a container whose command is gone
ENOUGH = 10  # failures, after which no more requests are sent
LARGEST = 5  # changes that are shown


class Request(NamedTuple):
    """A kept request.

    Attributes:
        time: When it was answered.
        id: Id of its answer.
        examples: Rows or pictures.
        predictions: The recorded answer to each.
    """

    time: float
    id: str
    examples: Sequence[Any]
    predictions: Sequence[Mapping[str, Any]]


class Change(NamedTuple):
    """A row that both releases have answered.

    Attributes:
        id: Id of the recorded answer.
        row: Position in the request.
        before: The recorded class or number.
        after: The new one.
        disagrees: Whether it is another class, or a number outside of the recorded interval.
        distance: Largest difference of a probability, or difference of the numbers.
    """

    id: str
    row: int
    before: Any
    after: Any
    disagrees: bool
    distance: float


class Replay(NamedTuple):
    """What a release did with kept requests.

    Attributes:
        changes: Each row that was answered.
        seconds: Times of the answers.
        failures: Reasons of the requests that were not answered.
    """

    changes: list[Change]
    seconds: list[float]
    failures: list[str]


def kept(folder: Path, version: str, last: int) -> list[Request]:
    """The last kept requests that a model has answered.

    Args:
        folder: Folder of the segments.
        version: Version of the model in its answers.
        last: Number of requests.

    Raises:
        UserError: If there are none, or segments cannot be read.
    """
    found = [
        Request(line["time"], line["id"], [example for example, _ in pairs], [told for _, told in pairs])
        for line, pairs in reading.open_segments(folder).requests()
        if line["answer"]["model_version"] == version
    ]
    if not found:
        raise UserError(f"{folder} has no requests that the model {version} has answered, see docs/log.md")
    return sorted(found, key=lambda each: each.time)[-last:]


def body(request: Request, model: Description) -> tuple[str, bytes]:
    """Content type and body of a request, with what the model had of it.

    Args:
        request: The request.
        model: Description of the model that has answered it.

    Raises:
        UserError: If values were not kept.
    """
    if model["input"] == "images":
        import numpy as np

        array = io.BytesIO()
        np.save(array, destination("images").feeds(request.examples, model)["image"])
        return "application/x-npy", array.getvalue()
    for column in model["columns"]:
        name = column["name"]
        if any(name not in row or HASH.fullmatch(str(row[name])) for row in request.examples):
            raise UserError(
                f"column {name!r} is private, its values were not kept: the same cannot be asked again; `python -m "
                f"{NAME} compare` asks both models without them"
            )
    return "application/json", json.dumps({"instances": request.examples}).encode()


def change(request: Request, row: int, after: Mapping[str, Any]) -> Change:
    """A row's recorded answer beside the new one.

    Args:
        request: The request.
        row: Position of the row.
        after: The new answer.
    """
    before = request.predictions[row]
    if "label" in before:
        old, new = before["probabilities"], after["probabilities"]
        distance = max(abs(old[name] - new[name]) for name in old)
        disagrees = before["label"] != after["label"]
        return Change(request.id, row, before["label"], after["label"], disagrees, distance)
    low, high = before["low"], before["high"]
    inside = after["value"] == before["value"] if low is None else low <= after["value"] <= high
    distance = abs(after["value"] - before["value"])
    return Change(request.id, row, before["value"], after["value"], not inside, distance)


def replay(port: int, requests: Sequence[Request], model: Description) -> Replay:
    """Asks a service on this machine again what was asked, one request after the other.

    Args:
        port: Its port.
        requests: The requests.
        model: Description of the model that has answered them.

    Raises:
        UserError: If requests were not kept as they were asked.
    """
    done = Replay([], [], [])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    for request in requests:
        kind, data = body(request, model)
        start = time.perf_counter()
        try:
            connection.request("POST", "/predict", data, {"content-type": kind, "accept": "application/json"})
            response = connection.getresponse()
            told = response.read()
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"{response.status} {one_line(told.decode(errors='replace'), 200)}")
            predictions = json.loads(told)["predictions"]
            done.seconds.append(time.perf_counter() - start)
            done.changes.extend(change(request, row, each) for row, each in enumerate(predictions))
        except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
            connection.close()  # the next request opens it again
            done.failures.append(f"{request.id}: {one_line(error) or type(error).__name__}")
            if len(done.failures) == ENOUGH:
                break
    connection.close()
    return done


@contextlib.contextmanager
def container(server: Host, spec: Spec) -> Iterator[int]:
    """Runs a container of a release on a server; gives the port of this machine that leads there.

    It has neither service.env nor secrets: it keeps and audits nothing, asks for no key, and ends with the command.

    Args:
        server: The server, which has the image.
        spec: The release.

    Raises:
        UserError: If it does not get ready.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    memory = f"{spec.memory}B"
    words = [
        *([] if server.is_root else ["sudo", "-n"]),
        *["podman", "run", "--rm", "--name", CONTAINER, "--pull=never", "--network=host", "--no-healthcheck"],
        *["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges"],
        *["--memory", memory, "--memory-swap", memory, "--pids-limit", "256", "--timeout", str(MOST_SECONDS)],
        *["--env", f"SERVICE_RELEASE={spec.release}", "--env", f"SERVICE_MODEL_SHA256={spec.model.sha256}"],
        *[spec.image, "--host", "127.0.0.1", "--port", str(PORT)],
    ]
    tunnel = ["-o", "ExitOnForwardFailure=yes", "-L", f"127.0.0.1:{port}:127.0.0.1:{PORT}"]
    command = ["ssh", *server.options, *tunnel, server.place, "--", shlex.join(words)]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            _await(port, spec.release, process, log, server)
            yield port
        finally:
            # The end of ssh alone would not end what it has started.
            hosts.run(server, "podman", "stop", "--ignore", "--time", "5", CONTAINER)
            process.terminate()


def _await(port: int, release: str, process: subprocess.Popen[bytes], log: IO[str], server: Host) -> None:
    """Waits until the container is ready with its release.

    Raises:
        UserError: If it ends before, or takes too long.
    """
    end, told = time.monotonic() + START, "no answer"
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            if answer.status == http.HTTPStatus.OK and answer.getheader("x-release") == release:
                return
            told = f"it answers {answer.status}, release {answer.getheader('x-release')}"
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    if process.poll() is not None:
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
        marked = [line for line in lines if line.lower().startswith("error: ")]
        told = (marked or lines or [f"exit status {process.returncode}"])[-1]
    raise UserError(f"{server.name} does not run {release} beside its slot: {one_line(told)}")


def shadow(folder: Path, last: int) -> tuple[list[str], str]:
    """Lines of a report, and why the release does not answer as expected; "" if it does.

    Args:
        folder: Folder of the kept requests.
        last: Number of requests.

    Raises:
        UserError: If no release is on its way, or there is nothing to compare with.
    """
    spec, everything = description.require().spec, hosts.read()
    state = hosts.state(everything.balancer)
    if state.get("candidate") != spec.release:
        raise UserError(
            f"{spec.release} is in no slot yet, or serves already: `python -m {NAME} deploy` with the first steps "
            "{setWeight: 0} and {pause: {duration: 30m}} leaves time for a shadow, see docs/delivery.md"
        )
    served = serving(state)
    before = versions.of_release(served)
    if before is None:
        raise UserError(f"no version was deployed as {served or 'a stable release'}: there is nothing to compare with")
    try:
        pair = comparison.pair(before.rpartition("/")[2], spec.model.version)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing, whose test split says what to expect: `dvc pull`") from None
    tested = comparison.difference(pair).changed
    requests = kept(folder, pair.descriptions[0]["sha256"][:12], last)
    body(requests[0], pair.descriptions[0])  # before anything is started
    with container(everything.servers[0], spec) as port:
        done = replay(port, requests, pair.descriptions[0])
    audit.record("shadow", version=pair.names[1], release=spec.release, requests=len(requests))
    return _told(done, pair.names, float(tested.mean()), len(requests))


def _told(done: Replay, names: tuple[str, str], expected: float, count: int) -> tuple[list[str], str]:
    lines, problem = [], ""
    if done.failures:
        answered = len(done.seconds)
        problem = f"{names[1]} has not answered {len(done.failures)} of {answered + len(done.failures)} requests that "
        problem += f"{names[0]} had answered; {done.failures[0]}"
    if done.changes:
        disagreements = sum(each.disagrees for each in done.changes)
        low, _ = comparison.interval(disagreements, len(done.changes))
        shown = comparison.share(disagreements, len(done.changes))
        lines = [
            f"{names[0]} and {names[1]} disagree on {shown} rows of {count:,} kept requests; on the test split, on "
            f"{text.percent(expected)}",
            _times(done.seconds),
        ]
        if changed := sorted((each for each in done.changes if each.distance > 0), key=lambda each: -each.distance):
            rows: list[tuple[object, ...]] = [("request", "row", *names, "difference")]
            rows += [(each.id, each.row, *map(_short, each[2:4]), _short(each.distance)) for each in changed[:LARGEST]]
            lines += ["", *text.aligned(rows)]
        if low > expected + MARGIN and not problem:
            problem = (
                f"{names[0]} and {names[1]} disagree on {text.percent(low)} of the rows at least, more than the "
                f"{text.percent(expected)} of the test split and a margin of {text.percent(MARGIN)}"
            )
    return lines, problem


def _short(answer: Any) -> object:
    return text.number(answer) if isinstance(answer, float) else "not sure" if answer is None else answer


def _times(seconds: Sequence[float]) -> str:
    import numpy as np

    median, high = np.quantile(seconds, [0.5, 0.95]) * 1000
    return f"an answer took {median:.1f} ms, 95% at most {high:.1f} ms, by SSH and one at a time"


@click.command()
@click.option("--requests", "folder", type=FILE, required=True, metavar="FOLDER", help="Kept requests of the service.")
@click.option("--last", type=click.IntRange(1), default=LAST, show_default=True, help="Number of requests.")
def command(folder: Path, last: int) -> None:
    """Ask a new release what was asked last, before it gets traffic.

    SERVICE_LOG_IDENTITY names the file with the secret key that decrypts the requests. It fails if a request fails, or
    if the answers differ from the recorded ones more than those on the test split lead to expect.
    """
    with store.in_one_line():
        lines, problem = shadow(folder, last)
        print("\n".join(lines))
        if problem:
            raise UserError(problem)
