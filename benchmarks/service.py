"""The generated service against two others that serve the same model, in one run.

    python benchmarks/service.py [PROJECT]     a generated project after `dvc repro`; default build/demo

The others are what one has without the template: `mlflow models serve` of the same run (the ONNX model that
the pipeline logs), and a BentoML service of a few lines that loads the SavedModel with TensorFlow. Each gets
the same image in a request, as JSON numbers, from the same client on the same machine, which shares its cores
with them. Sides take turns within each round; figures are medians of the rounds. A first start of each, not
counted, compiles the bytecode and fills the file cache.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

START_LIMIT = 180.0
LENGTH = re.compile(rb"content-length: *([0-9]+)", re.IGNORECASE)
TENSORFLOW_SERVICE = """
import bentoml
import numpy as np
import tensorflow as tf

@bentoml.service(logging={"access": {"enabled": False}})
class SavedModel:
    def __init__(self) -> None:
        self.model = tf.saved_model.load("saved_model")

    @bentoml.api
    def predict(self, instances: np.ndarray) -> np.ndarray:
        return self.model.serve(instances.astype("float32")).numpy()
"""
SAVE = """
import sys
from pathlib import Path
from {package}.export import load_keras
load_keras(Path("models")).export(sys.argv[1], verbose=False)
"""


@dataclass
class Side:
    """A server: how it starts, what it is asked, how it answers, and what was measured."""

    name: str
    command: list[str]
    folder: Path
    path: str
    body: dict[str, Any]
    answer: Any  # JSON answer -> probabilities of the image
    env: dict[str, str] = field(default_factory=dict)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def request(self, port: int) -> bytes:
        body = json.dumps(self.body).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One client: sends the request again as soon as its answer is there; notes how long each took."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request, self.until = request, until
        self.took: list[float] = []
        self.answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.send()

    def send(self) -> None:
        self.received, self.sent = b"", time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        # The client shares the cores with the server: it looks only for where the answer ends.
        self.received = self.received + data if self.received else data
        end = self.received.find(b"\r\n\r\n")
        length = LENGTH.search(self.received, 0, end) if end >= 0 else None
        if length is None or len(self.received) < end + 4 + int(length[1]):
            return
        now = time.perf_counter()
        self.took.append(now - self.sent)
        if not self.received.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(f"answered {self.received[:1000]!r}"))
        elif now < self.until:
            self.send()
        else:
            self.answer = self.received[end + 4 :]
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed the connection"))


async def load(side: Side, port: int, clients: int, seconds: float) -> tuple[list[float], float, bytes]:
    """Keep `clients` connections busy; return the time of each request, the wall time and one answer."""
    started = time.perf_counter()
    loop, request = asyncio.get_running_loop(), side.request(port)
    made = await asyncio.gather(
        *(
            loop.create_connection(lambda: Connection(request, started + seconds), "127.0.0.1", port)
            for _ in range(clients)
        )
    )
    connections = [protocol for _, protocol in made]
    await asyncio.gather(*(connection.done for connection in connections))
    took = [each for connection in connections for each in connection.took]
    return took, time.perf_counter() - started, connections[0].answer


@contextlib.contextmanager
def running(side: Side, port: int, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a server; give it and the seconds to its first answer; stop it with all it started."""
    with log.open("ab") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [*side.command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=side.folder,
            env=side.env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            with contextlib.suppress(OSError):
                asyncio.run(load(side, port, 1, 0))
                break
            if process.poll() is not None or time.perf_counter() - started > START_LIMIT:
                raise RuntimeError(f"{side.name} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.01)
        yield process, time.perf_counter() - started
    finally:
        tree = family(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        _, alive = psutil.wait_procs(tree, timeout=15)
        for leftover in alive:
            leftover.kill()
        process.wait()


def family(pid: int) -> list[psutil.Process]:
    """Find a process and all below it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def memory(pid: int) -> float:
    """Add up the proportional set size of all processes of a server, in MB: pages they share count once."""
    return sum(process.memory_full_info().pss for process in family(pid)) / 1e6


def processor_time(pid: int) -> float:
    """Add up the CPU seconds of a server: what else runs changes them less than it changes the rate."""
    return sum(sum(process.cpu_times()[:2]) for process in family(pid))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(side: Side, expected: np.ndarray, seconds: float, log: Path) -> dict[str, float]:
    """Start a side, load it and stop it."""
    port = free_port()
    with running(side, port, log) as (process, cold):
        asyncio.run(load(side, port, 16, 1))  # warm
        single, _, answer = asyncio.run(load(side, port, 1, seconds))
        before = processor_time(process.pid)
        many, wall, _ = asyncio.run(load(side, port, 16, seconds))
        busy = (processor_time(process.pid) - before) / len(many) * 1e3
        used = memory(process.pid)
    difference = float(np.abs(np.asarray(side.answer(json.loads(answer))) - expected).max())
    if difference > 1e-5:
        raise RuntimeError(f"{side.name} answers something else: difference {difference}")
    low, high = np.percentile(single, [50, 99]) * 1e3
    return {"cold": cold, "p50": low, "p99": high, "rate": len(many) / wall, "CPU": busy, "memory": used}


def sides(project: Path, scratch: Path) -> tuple[list[Side], np.ndarray]:
    """Describe the three servers, and what the model says of the image they are asked about."""
    import onnxruntime

    (package,) = (folder.name for folder in (project / "src").iterdir() if (folder / "service.py").exists())
    path = [str(project / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path),
        # A folder of the benchmark's own, so that all sides have bytecode whatever the environment came with.
        "PYTHONPYCACHEPREFIX": str(scratch / "bytecode"),
        "BENTOML_HOME": str(scratch / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)

    def python(code: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=project, env=env, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{project}: {done.stderr[-3000:]}")
        return done.stdout.strip()

    run = python(f"from {package} import lineage; print(lineage.labels()['mlflow_run'])").splitlines()[-1]
    python(SAVE.format(package=package), str(scratch / "saved_model"))
    (scratch / "saved_model_service.py").write_text(TENSORFLOW_SERVICE)

    image = np.load(project / "data/prepared/test/images.npy", mmap_mode="r")[:1].astype(np.float32)
    session = onnxruntime.InferenceSession(project / "models/model.onnx")
    (expected,) = session.run(["probabilities"], {"image": image})
    pixels = image.tolist()

    def ours(answer: Any) -> list[float]:
        return list(answer["predictions"][0]["probabilities"].values())

    def mlflow(answer: Any) -> list[float]:
        outputs = answer["predictions"]
        return (outputs["probabilities"] if isinstance(outputs, dict) else outputs)[0]

    model = ["--env-manager", "local", "--model-uri", f"runs:/{run}/model"]
    instances = {"instances": pixels}
    return [
        Side("one process", ["python", "-m", f"{package}.service"], project, "/predict", instances, ours, env),
        Side("bentoml serve", ["bentoml", "serve", "."], project, "/predict", instances, ours, env),
        Side(
            "MLflow",
            ["mlflow", "models", "serve", *model],
            project,
            "/invocations",
            {"inputs": {"image": pixels}},
            mlflow,
            env,
        ),
        Side(
            "BentoML, TensorFlow",
            ["bentoml", "serve", "saved_model_service:SavedModel"],
            scratch,
            "/predict",
            instances,
            lambda answer: answer[0],
            env,
        ),
    ], expected[0]


def pairs(sides: list[Any]) -> list[tuple[Any, Any]]:
    """Each way to serve what the template makes, with each of the others."""
    return [(ours, other) for ours in sides[:2] for other in sides[2:]]


def main() -> None:
    """Measure, print the figures and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of load, for each figure and round")
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    if not (project / "models/model.onnx").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        servers, expected = sides(project, scratch)
        body = len(json.dumps(servers[0].body))
        print(f"{os.cpu_count()} cores; a request: one image, {body} bytes of JSON; {arguments.rounds} rounds")
        for round_ in range(arguments.rounds + 1):
            for number, side in enumerate(servers):
                seconds = arguments.seconds if round_ else 0.2
                figures = measure(side, expected, seconds, scratch / f"log{number}")
                if round_:
                    for name, value in figures.items():
                        side.figures.setdefault(name, []).append(value)
                told = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
                print(f"  {f'round {round_}' if round_ else 'warm-up'}: {side.name}: {told}", flush=True)

    median = [{name: statistics.median(values) for name, values in side.figures.items()} for side in servers]
    heads = f"{'cold start':>10} {'p50':>9} {'p99':>9} {'16 clients':>12} {'CPU/request':>12} {'memory':>9}"
    print(f"\n{'':20} {heads}")
    for side, figure in zip(servers, median, strict=True):
        print(
            f"{side.name:20} {figure['cold']:>8.2f} s {figure['p50']:>6.2f} ms {figure['p99']:>6.2f} ms"
            f" {figure['rate']:>10.0f}/s {figure['CPU']:>9.2f} ms {figure['memory']:>6.0f} MB"
        )
    goals = {"rate": "at least 3", "memory": "at most 0.33", "cold": "at most 0.20"}
    goals |= dict.fromkeys(("CPU", "p50", "p99"), "-")
    print(f"\n{'ratio':8} {'goal':>12}" + "".join(f"{f'{a.name} / {b.name}':>37}" for a, b in pairs(servers)))
    for name, goal in goals.items():
        ratios = [f"{a[name] / b[name]:>37.2f}" for a, b in pairs(median)]
        print(f"{name:8} {goal:>12}" + "".join(ratios))


if __name__ == "__main__":
    main()
