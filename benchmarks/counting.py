"""What counting costs the service: CPU of a request, and latency while Prometheus scrapes.

    python benchmarks/counting.py [PROJECT]            a generated project after `dvc repro`; default build/demo
    python benchmarks/counting.py --columns 50 ...     a table project's code, with a linear model of 50 numbers

Two services of one process take turns: `plain`, the project without models/reference.json, and `counting`. Each
request holds another row, because identical rows count once. CPU a request is the least of the rounds, because other
work on the machine can only add to it; p99 is the least of the rounds, too, with and without a scrape of /metrics each
second. The last line on stdout is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import importlib
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from service import Connection, Side, free_port, processor_time, running

REQUESTS = 4096  # different ones


def bodies(project: Path) -> list[bytes]:
    """Make requests of one row each, all different."""
    rng = np.random.default_rng(0)
    pictures = project / "data/prepared/test/images.npy"
    if pictures.exists():
        images = np.load(pictures, mmap_mode="r")
        rows = [(images[number % len(images)] * rng.uniform(0.9, 1)).tolist() for number in range(REQUESTS)]
    else:
        examples = json.loads((project / "models/page.json").read_bytes())["examples"]
        rows = [
            {
                name: value * rng.uniform(0.9, 1.1) if isinstance(value, float) else value
                for name, value in examples[number % len(examples)]["instance"].items()
            }
            for number in range(REQUESTS)
        ]
    return [json.dumps({"instances": [row]}).encode() for row in rows]


def side(name: str, folder: Path, body: bytes, scratch: Path) -> Side:
    """Describe a service of one process."""
    (package,) = (path.name for path in (folder / "src").iterdir() if (path / "service.py").exists())
    env = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
        "PYTHONPYCACHEPREFIX": str(scratch / f"bytecode-{name}"),
        "BENTOML_HOME": str(scratch / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return Side(name, ["python", "-m", package, "serve"], folder, "/predict", body, None, env)


def linear(project: Path, folder: Path, columns: int) -> Path:
    """Make a project with the code of another one, and a linear model of some columns with its reference."""
    from onnx import TensorProto, helper, numpy_helper

    shutil.copytree(project / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "models").mkdir()
    for name in ("bentofile.yaml", "dvc.yaml"):
        shutil.copy(project / name, folder)
    rng, names = np.random.default_rng(0), [f"column {number}" for number in range(columns)]
    rows = helper.make_tensor_value_info
    weights = numpy_helper.from_array(rng.normal(size=(columns, 2)).astype(np.float32), "weights")
    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes = [helper.make_node("Unsqueeze", [name, "axes"], [f"{name} wide"]) for name in names]
    nodes += [
        helper.make_node("Concat", [f"{name} wide" for name in names], ["double"], axis=1),
        helper.make_node("Cast", ["double"], ["row"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["row", "weights"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [rows(name, TensorProto.DOUBLE, ["n"]) for name in names],
        [rows("probabilities", TensorProto.FLOAT, ["n", 2])],
        [weights, axes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()
    (folder / "models/model.onnx").write_bytes(model)
    description = {
        "input": "tables",
        "target": "classification",
        "sha256": hashlib.sha256(model).hexdigest(),
        "classes": ["no", "yes"],
        "target_name": "target",
        "columns": [{"name": name, "type": "number"} for name in names],
    }
    (folder / "models/model.json").write_text(json.dumps(description))
    example = {name: float(rng.normal()) for name in names}
    (folder / "models/page.json").write_text(json.dumps({"examples": [{"instance": example}]}))
    (package,) = (path.name for path in (folder / "src").iterdir() if (path / "service.py").exists())
    sys.path.insert(0, str(folder / "src"))
    reference = importlib.import_module(f"{package}.harness.drift.reference")
    train = {name: rng.normal(size=2000) for name in names}
    yes = rng.random(2000).astype(np.float32)
    test = np.stack([1 - yes, yes], 1), (rng.random(2000) < yes).astype(np.int64)
    content = reference.build(description, [train], test, dict.fromkeys(names, "number"))
    (folder / "models/reference.json").write_text(json.dumps(content))
    return folder


def copied(project: Path, folder: Path) -> Path:
    """Copy what a service reads, without the reference."""
    shutil.copytree(project / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(project / "models", folder / "models", ignore=shutil.ignore_patterns("reference.json"))
    for name in ("bentofile.yaml", "dvc.yaml"):
        shutil.copy(project / name, folder)
    return folder


async def ask(port: int, requests: Iterator[bytes], clients: int, seconds: float, scrape: bool) -> list[float]:
    """Keep connections busy, and scrape /metrics each second if asked to; return the time of each request."""
    loop, end = asyncio.get_running_loop(), time.perf_counter() + seconds
    took: list[float] = []
    wrong: list[bytes] = []

    def answered(connection: Connection, duration: float, start: int) -> None:
        if not connection.received.startswith(b"HTTP/1.1 200"):
            wrong.append(connection.received[:1000])
        took.append(duration)
        if time.perf_counter() < end and not wrong:
            connection.request = next(requests)
            connection.send()
        else:
            connection.transport.close()

    async def scraping() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            await asyncio.sleep(1)

    scraper = loop.create_task(scraping()) if scrape else None
    made = [
        await loop.create_connection(lambda: Connection(next(requests), answered), "127.0.0.1", port)
        for _ in range(clients)
    ]
    for _, protocol in made:
        protocol.send()
    await asyncio.gather(*(protocol.lost for _, protocol in made))
    if scraper:
        scraper.cancel()
    if wrong or len(took) < clients:
        raise ConnectionError(f"the service answered {wrong[0]!r}" if wrong else "the service closed the connection")
    return took


def series(port: int) -> tuple[int, int]:
    """Number of the model's series, and bytes of /metrics."""
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read()
    return sum(line.startswith(b"model_") for line in text.splitlines()), len(text)


def tell(figures: dict[str, float], goals: str) -> None:
    """Print figures as a table, their goals, and JSON."""
    for name, value in figures.items():
        print(f"{name:32}{value:10.2f}")
    print(goals)
    print(json.dumps(figures))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=Path("build/demo"))
    parser.add_argument("--columns", type=int, help="of a model made here, in place of the project's")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3, help="of load, for each figure and round")
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    if not arguments.columns and not (project / "models/reference.json").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")
    found: dict[str, Any] = {}
    spent: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        if arguments.columns:
            project = linear(project, scratch / "counting", arguments.columns)
        made = bodies(project)
        folders = {"plain": copied(project, scratch / "plain"), "counting": project}
        ports: dict[str, int] = {}
        requests = {}
        for name, place in folders.items():  # one after the other: together they would compile twice
            ports[name] = free_port()
            asked = side(name, place, made[0], scratch)
            pid, _ = stack.enter_context(running(asked, ports[name], scratch / f"log-{name}"))
            found[name] = {"pid": pid}
            sent = [dataclasses.replace(asked, body=body).request(ports[name]) for body in made]
            requests[name] = itertools.cycle(sent)
        for round_ in range(arguments.rounds + 1):  # the first one warms
            for name, port in ports.items():
                before = processor_time(found[name]["pid"])
                took = asyncio.run(ask(port, requests[name], 4, arguments.seconds, False))
                busy = (processor_time(found[name]["pid"]) - before) / len(took) * 1e6
                scraped = asyncio.run(ask(port, requests[name], 4, arguments.seconds, True))
                if round_:
                    for what, value in (
                        ("CPU a request, us", busy),
                        ("p99, ms", float(np.percentile(took, 99)) * 1e3),
                        ("p99 scraped, ms", float(np.percentile(scraped, 99)) * 1e3),
                        ("requests/s", len(took) / arguments.seconds),
                    ):
                        spent.setdefault(f"{name}: {what}", []).append(value)
        count, size = series(ports["counting"])
    figures = {name: (max if "/s" in name else min)(values) for name, values in spent.items()}
    figures |= {
        "CPU, counting / plain": figures["counting: CPU a request, us"] / figures["plain: CPU a request, us"],
        "p99, scraped / not": figures["counting: p99 scraped, ms"] / figures["counting: p99, ms"],
        "series": count,
        "bytes of /metrics": size,
    }
    tell(figures, "goals: CPU at most 1.03, p99 at most 1.20")


if __name__ == "__main__":
    main()
