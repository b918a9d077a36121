"""The generated service against others that serve the same model, in one run.

    python benchmarks/service.py [PROJECT]            a generated project after `dvc repro`; default build/demo
    python benchmarks/service.py --images [PROJECT]   container images too; wants docker, or podman and buildah
    python benchmarks/service.py --sides 0,3          some sides only: one process, bentoml serve, workers, MLflow,
                                                      TensorFlow, by number from 0

The others are what one has without the template: the server process of `mlflow models build-docker` (a worker a
core) with the ONNX model that the pipeline logs, and a BentoML service of a few lines that loads the SavedModel with
TensorFlow. `workers` is `bentoml serve` of the project with a worker a core, as MLflow has them. Each gets the same
image in a request, as JSON numbers, from the same client on the same machine, which shares its cores with them. Sides
take turns within each round; figures are medians of the rounds, "CPU a request" the least, because other work on the
machine can only add to it. A first start of each, not counted, compiles the bytecode and fills the file cache.

Then, of the one process alone: binary batches against ONNX Runtime called in a loop, which is the limit; and four times
as many requests as it can answer. The last line on stdout is JSON: side -> figure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib.metadata
import io
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
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
BENTOFILE = """
service: saved_model_service:SavedModel
include: [saved_model_service.py, saved_model/]
python: {packages: [numpy, tensorflow==%s], lock_packages: false}
"""
CONTAINER = "service-benchmark"
CLIENTS = (1, 16, 64)
WORKERS = "services: {%s: {workers: %d}}\n"
SAVE = """
import sys
from pathlib import Path
from {package}.harness.training.restore import load_keras
load_keras(Path("models")).export(sys.argv[1], verbose=False)
"""


@dataclass
class Side:
    """A server: how it starts, what it is asked, how it answers, and what was measured."""

    name: str
    command: list[str]
    folder: Path
    path: str
    body: bytes
    answer: Any  # body of an answer -> probabilities
    env: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    engine: str = ""  # the program that runs it, of a container
    size: float = 0  # MB, of an image
    figures: dict[str, list[float]] = field(default_factory=dict)

    def request(self, port: int) -> bytes:
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {self.content_type}\r\n"
        accept = f"Accept: {self.content_type}\r\nContent-Length: {len(self.body)}\r\n\r\n"
        return f"{head}{accept}".encode() + self.body

    def pid(self, process: subprocess.Popen[bytes]) -> int:
        """Find the process that leads all that serve."""
        if not self.engine:
            return process.pid
        command = [self.engine, "container", "inspect", "--format", "{{.State.Pid}}", CONTAINER]
        return int(subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout)


class Connection(asyncio.Protocol):
    """One client: sends a request and calls back with how long its answer took and where its body begins."""

    def __init__(self, request: bytes, answered: Callable[[Connection, float, int], None]) -> None:
        self.request, self.answered = request, answered
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def send(self) -> None:
        self.received, self.sent = b"", time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        # The client shares the cores with the server: it looks only for where the answer ends.
        self.received = self.received + data if self.received else data
        end = self.received.find(b"\r\n\r\n")
        length = LENGTH.search(self.received, 0, end) if end >= 0 else None
        if length is not None and len(self.received) >= end + 4 + int(length[1]):
            self.answered(self, time.perf_counter() - self.sent, end + 4)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


async def load(side: Side, port: int, clients: int, seconds: float) -> tuple[list[float], float, bytes]:
    """Keep `clients` connections busy; return the time of each request, the wall time and one answer."""
    started = time.perf_counter()
    loop, request = asyncio.get_running_loop(), side.request(port)
    took: list[float] = []
    answers: list[bytes] = []
    wrong: list[bytes] = []

    def answered(connection: Connection, duration: float, start: int) -> None:
        took.append(duration)
        if not connection.received.startswith(b"HTTP/1.1 200"):
            wrong.append(connection.received[:1000])
        elif time.perf_counter() < started + seconds:
            connection.send()
            return
        else:
            answers.append(connection.received[start:])
        connection.transport.close()

    def connection() -> Connection:
        return Connection(request, answered)

    made = await asyncio.gather(*(loop.create_connection(connection, "127.0.0.1", port) for _ in range(clients)))
    for _, protocol in made:
        protocol.send()
    await asyncio.gather(*(protocol.lost for _, protocol in made))
    if len(answers) < clients:
        raise ConnectionError(f"{side.name} answered {wrong[0]!r}" if wrong else f"{side.name} closed the connection")
    return took, time.perf_counter() - started, answers[0]


async def offer(side: Side, port: int, rate: float, seconds: float) -> tuple[float, dict[str, list[float]]]:
    """Send `rate` requests a second, whatever is answered; return how many were sent a second, and times by status."""
    loop, request = asyncio.get_running_loop(), side.request(port)
    idle: list[Connection] = []
    took: dict[str, list[float]] = {}

    def answered(connection: Connection, duration: float, start: int) -> None:
        took.setdefault(connection.received[9:12].decode(), []).append(duration)
        idle.append(connection)

    every: list[Connection] = []
    started, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - started) < seconds:
        while sent < now * rate:
            if not idle:  # all wait for their answers: somebody new comes
                _, protocol = await loop.create_connection(lambda: Connection(request, answered), "127.0.0.1", port)
                every.append(protocol)
                idle.append(protocol)
            idle.pop().send()
            sent += 1
        await asyncio.sleep(0.001)
    while len(idle) < len(every):  # the last answers
        await asyncio.sleep(0.01)
    for protocol in every:
        protocol.transport.close()
    return sent / now, took


@contextlib.contextmanager
def running(side: Side, port: int, log: Path) -> Iterator[tuple[int, float]]:
    """Start a server; give its process and the seconds to its first answer; stop it with all it started."""
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
        cold = time.perf_counter() - started
        yield side.pid(process), cold
    finally:
        tree = family(process.pid)
        if side.engine:
            subprocess.run([side.engine, "rm", "--force", CONTAINER], env=side.env, capture_output=True)
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


def memory(pid: int, kind: str = "pss") -> float:
    """Add up the memory of all processes of a server, in MB: "pss", where pages they share count once, or "rss"."""
    return float(sum(getattr(process.memory_full_info(), kind) for process in family(pid))) / 1e6


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
    with running(side, port, log) as (pid, cold):
        asyncio.run(load(side, port, 16, 1))  # warm
        figures = {"image, MB": side.size, "cold start, s": cold}
        for clients in CLIENTS:
            before = processor_time(pid)
            took, wall, answer = asyncio.run(load(side, port, clients, seconds))
            p50, p99 = np.percentile(took, [50, 99]) * 1e3
            busy = (processor_time(pid) - before) / len(took) * 1e3
            figures |= {
                f"{clients}: p50, ms": p50,
                f"{clients}: p99, ms": p99,
                f"{clients}: requests/s": len(took) / wall,
            }
            figures[f"{clients}: CPU a request, ms"] = busy
        figures |= {"PSS, MB": memory(pid), "RSS, MB": memory(pid, "rss")}
    difference = float(np.abs(np.asarray(side.answer(answer)) - expected).max())
    if difference > 1e-5:
        raise RuntimeError(f"{side.name} answers something else: difference {difference}")
    return figures


def sides(project: Path, scratch: Path, chosen: list[int]) -> tuple[list[Side], np.ndarray]:
    """Describe the chosen servers that run as processes, and what the model says of the image they are asked about."""

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

    run = python(f"from {package}.harness.tracking import labels; print(labels.labels()['mlflow_run'])").splitlines()[
        -1
    ]
    if 4 in chosen:
        python(SAVE.format(package=package), str(scratch / "saved_model"))
    (scratch / "workers.yaml").write_text(WORKERS % (package, os.cpu_count()))
    workers = {**env, "BENTOML_CONFIG": str(scratch / "workers.yaml")}
    (scratch / "saved_model_service.py").write_text(TENSORFLOW_SERVICE)

    image = np.load(project / "data/prepared/test/images.npy", mmap_mode="r")[:1].astype(np.float32)
    (expected,) = session(project).run(["probabilities"], {"image": image})
    pixels = image.tolist()

    def ours(answer: bytes) -> list[float]:
        return list(json.loads(answer)["predictions"][0]["probabilities"].values())

    def mlflow(answer: bytes) -> list[float]:
        outputs = json.loads(answer)["predictions"]
        return (outputs["probabilities"] if isinstance(outputs, dict) else outputs)[0]

    # What the image of `mlflow models build-docker` runs behind its nginx.
    model = ["--env-manager", "local", "--workers", str(os.cpu_count()), "--model-uri", f"runs:/{run}/model"]
    instances, inputs = json.dumps({"instances": pixels}).encode(), json.dumps({"inputs": {"image": pixels}}).encode()
    tensorflow = ["bentoml", "serve", "saved_model_service:SavedModel"]
    known = [
        Side("one process", ["python", "-m", package, "serve"], project, "/predict", instances, ours, env),
        Side("bentoml serve", ["bentoml", "serve", "."], project, "/predict", instances, ours, env),
        Side("workers", ["bentoml", "serve", "."], project, "/predict", instances, ours, workers),
        Side("MLflow", ["mlflow", "models", "serve", *model], project, "/invocations", inputs, mlflow, env),
        Side("TensorFlow", tensorflow, scratch, "/predict", instances, lambda answer: json.loads(answer)[0], env),
    ]
    return [known[number] for number in chosen], expected[0]


def session(project: Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """Load the model as a worker of the service does, on one thread; 0 are as many as ONNX Runtime takes by itself."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(project / "models/model.onnx", options, ["CPUExecutionProvider"])


def images(ours: Side, tensorflow: Side) -> list[Side]:
    """Build two container images: the project's own, and BentoML's of the service that loads the SavedModel."""

    def works(program: str) -> bool:
        return bool(shutil.which(program)) and subprocess.run([program, "info"], capture_output=True).returncode == 0

    engine = next(filter(works, ("docker", "podman")), None)
    if engine is None:
        raise SystemExit("--images needs docker, or podman and buildah")

    def built(side: Side, command: str) -> str:
        done = subprocess.run(["bash", "-ec", command], cwd=side.folder, env=side.env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{command}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
        return done.stdout

    def contained(side: Side, name: str, image: str, *arguments: str) -> Side:
        run = [engine, "run", "--rm", "--name", CONTAINER, "--network=host", image, *arguments]
        inspect = [engine, "image", "inspect", "--format", "{{.Size}}", image]
        size = float(subprocess.run(inspect, env=side.env, check=True, capture_output=True, text=True).stdout) / 1e6
        return dataclasses.replace(side, name=name, command=run, engine=engine, size=size, figures={})

    image = re.findall(r"^image (\S+)", built(ours, "make image"), re.MULTILINE)[-1]
    (tensorflow.folder / "bentofile.yaml").write_text(BENTOFILE % importlib.metadata.version("tensorflow"))
    backend = "docker" if engine == "docker" else "buildah"
    tag = built(tensorflow, "bentoml build --output tag").strip().rpartition("__tag__:")[2]
    built(tensorflow, f"bentoml containerize {tag} --backend {backend} --image-tag {tag}")
    return [
        contained(ours, "image", image),
        contained(tensorflow, "TensorFlow image", tag, "serve"),
    ]


def compare_binary(ours: Side, project: Path, rounds: int, seconds: float, log: Path) -> dict[str, float]:
    """Print how near binary batches come to ONNX Runtime called in a loop, which answers nobody."""
    batch = np.load(project / "data/prepared/test/images.npy")[:256]
    loops = {"loop, one thread": session(project), "loop, its own threads": session(project, 0)}
    feed, array, port = {"image": batch.astype(np.float32)}, io.BytesIO(), free_port()
    np.save(array, batch)
    (expected,) = loops["loop, one thread"].run(["probabilities"], feed)
    side = dataclasses.replace(ours, body=array.getvalue(), content_type="application/x-npy")
    spent: dict[str, list[float]] = {name: [] for name in (*loops, "1 client", "2 clients")}
    with running(side, port, log) as (pid, _):
        *_, answer = asyncio.run(load(side, port, 2, 1))
        np.testing.assert_allclose(np.load(io.BytesIO(answer)), expected, rtol=0, atol=1e-5)
        for _ in range(rounds):
            for name, model in loops.items():
                count, started, before = 0, time.perf_counter(), time.process_time()
                while time.perf_counter() < started + seconds:
                    model.run(None, feed)
                    count += 1
                spent[name].append((time.process_time() - before) / count / len(batch) * 1e6)
            for clients in (1, 2):
                before = processor_time(pid)
                took, _, _ = asyncio.run(load(side, port, clients, seconds))
                busy = (processor_time(pid) - before) / len(took) / len(batch) * 1e6
                spent["2 clients" if clients == 2 else "1 client"].append(busy)
    # The least of each, in CPU time: other work on the machine can only add to it.
    least = {name: min(found) for name, found in spent.items()}
    print(f"\nbatches of {len(batch)} as application/x-npy: CPU us an image, shares of the loops' rates; at least 0.85")
    for name, busy in least.items():
        shares = "   ".join(f"{least[loop] / busy:.2f}" for loop in loops)
        print(f"  {name:21} {busy:8.1f}   {shares}")
    return {name: least["loop, one thread"] / least[name] for name in ("1 client", "2 clients")}


def overload(side: Side, seconds: float, log: Path) -> None:
    """Print what becomes of four times as many requests as the service can answer."""
    port = free_port()
    with running(side, port, log) as (pid, _):
        took, wall, _ = asyncio.run(load(side, port, 64, seconds))
        rate = len(took) / wall
        memories = [memory(pid)]
        print(
            f"\noverload: {rate:.0f} requests/s with 64 clients; four times as many offered, {seconds:g} s, three times"
        )
        for _ in range(3):
            offered, times = asyncio.run(offer(side, port, 4 * rate, seconds))
            memories.append(memory(pid))
            told = ", ".join(
                f"{status}: {len(found) / seconds:.0f}/s, p50 {np.percentile(found, 50) * 1e3:.0f} ms, "
                f"p99 {np.percentile(found, 99) * 1e3:.0f} ms"
                for status, found in sorted(times.items())
            )
            print(f"  offered {offered:.0f}/s; {told}")
        took, wall, _ = asyncio.run(load(side, port, 64, seconds))
        print(f"  afterwards {len(took) / wall:.0f} requests/s with 64 clients")
        print(f"  memory, MB: {', '.join(f'{used:.0f}' for used in memories)}")


def report(servers: list[Side]) -> dict[str, dict[str, float]]:
    """Print the figures, and the ratios of each way to serve what the template makes to each of the others."""

    def figure(side: Side, name: str) -> float:
        return (min if "CPU" in name else statistics.median)(side.figures[name])

    figures = {side.name: {name: figure(side, name) for name in side.figures} for side in servers}
    print(f"\n{'':24}" + "".join(f"{side.name:>18}" for side in servers))
    for name in servers[0].figures:
        print(f"{name:24}" + "".join(f"{found[name] or math.nan:>18.2f}" for found in figures.values()))
    goals = {
        "1: CPU a request, ms": "at most 0.28",
        "16: CPU a request, ms": "at most 0.28",
        "16: requests/s": "at least 3 of `workers`",
        "64: requests/s": "at least 3 of `workers`",
        "PSS, MB": "at most 0.24",
        "cold start, s": "at most 0.20",
    }
    ours = [name for name in figures if name in ("one process", "bentoml serve", "workers", "image")]
    for one, other in ((one, other) for one in ours for other in figures if other not in ours):
        print(f"\n{one} / {other}")
        for name, goal in goals.items():
            print(f"  {name:24}{figures[one][name] / figures[other][name]:6.2f}   goal: {goal}")
    return figures


def main() -> None:
    """Measure, print the figures and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--images", action="store_true", help="container images too")
    parser.add_argument("--sides", default="0,1,2,3,4", help="numbers of the sides, the first one a way of the project")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of load, for each figure and round")
    arguments = parser.parse_args()
    project, rounds, seconds = arguments.project.resolve(), arguments.rounds, arguments.seconds
    if not (project / "models/model.onnx").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")

    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        servers, expected = sides(project, scratch, [int(side) for side in arguments.sides.split(",")])
        if arguments.images:
            servers += images(servers[0], servers[-1])
        print(f"{os.cpu_count()} cores; a request: one image, {len(servers[0].body)} bytes of JSON; {rounds} rounds")
        for round_ in range(rounds + 1):
            for number, side in enumerate(servers):
                figures = measure(side, expected, seconds if round_ else 0.2, scratch / f"log{number}")
                if round_:
                    for name, value in figures.items():
                        side.figures.setdefault(name, []).append(value)
                told = ", ".join(
                    f"{name} {figures[name]:.2f}"
                    for name in ("cold start, s", "1: p50, ms", "16: p50, ms", "16: p99, ms", "16: requests/s")
                )
                print(f"  {f'round {round_}' if round_ else 'warm-up'}: {side.name}: {told}", flush=True)
        found = report(servers)
        found["binary batches"] = compare_binary(servers[0], project, rounds, seconds, scratch / "log")
        overload(servers[0], seconds, scratch / "log")
        print(json.dumps(found))


if __name__ == "__main__":
    main()
