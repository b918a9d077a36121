"""Malformed input for each decoder and parser: it is refused in one line, soon, and in little memory.

    python benchmarks/fuzz.py PROJECT                  a generated project after `dvc repro`
    python benchmarks/fuzz.py PROJECT --cases 20       20 % of the cases
    make fuzz                                          with atheris, which mutates what reaches new lines of the code

Without atheris, whose wheels are for few Pythons, cases are mutated at random, with a seed. Each target runs in a
process of its own. Anything but a refusal (a ValueError, or an error that the project words itself) is a finding, and
so is a message of several lines, a case that takes more than `SLOW` seconds, and `MEMORY` more than at the start. The
last line on stdout is JSON; the exit status is 1 if there are findings.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gzip
import io
import json
import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SLOW = 2.0  # seconds of processor time; a picture of 16 million pixels takes half of one
MEMORY = 400  # MiB
LONGEST = 4096  # bytes of a case
KEPT = 400  # cases that a mutation may begin with
WORDS = [b"\x00", b"\xff" * 8, b"\x80" * 9, b"\x7f\xff\xff\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800"]
WORDS += [b"[" * 2000, b'{"a":' * 300, b"true", b"null", b"[]", b"{}", b'"', b",,,,", b"\r\n", b"=1+1"]
WORDS += [b"1e999", b"-0", b"NaN", b"9" * 30]

TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # metadata of a picture

Target = tuple[Callable[[bytes], object], list[bytes]]


class Fuzzed:
    """The targets of a project."""

    def __init__(self, project: Path, package: str, scratch: Path) -> None:
        """Imports what all targets need.

        Args:
            project: The project.
            package: Its package.
            scratch: A folder for files that a target reads.
        """
        self.package = package
        self._models, self._harness, self.scratch = project / "models", f"{package}.harness", scratch
        self._info = self._module("serving.model").read_model_info()
        self._description = self._info.model_dump()
        self._requests = self._info.requests
        if "max_pixels" in self._description:
            self._description["max_pixels"] = self._module("serving.limits").Limits().pixels
        refusal, user_error = self._module("serving.refusal").Refusal, self._module("core.errors").UserError
        self.refusals = (ValueError, refusal, user_error)

    def targets(self) -> dict[str, tuple[int, Callable[[], Target]]]:
        """Name -> number of cases, and the target."""
        found: dict[str, tuple[int, Callable[[], Target]]] = {
            "json": (250_000, self._json),
            "feedback": (100_000, self._feedback),
            "form": (50_000, self._form),
            "audit": (150_000, self._audit),
            "model.json": (75_000, self._model_json),
            "model.onnx": (75_000, self._model_onnx),
            "reference.json": (50_000, self._reference),
        }
        if self._has_room("protection"):  # of scope=production
            found |= {"keys": (15_000, self._keys), "segments": (75_000, self._segments)}
        if self._info.input == "images":
            return found | {"pictures": (150_000, self._pictures), "arrays": (75_000, self._arrays)}
        return found | {"tables": (200_000, self._tables)}

    def _has_room(self, name: str) -> bool:
        return find_spec(f"{self._harness}.{name}") is not None

    def _module(self, name: str) -> Any:
        return import_module(f"{self._harness}.{name}")

    def _row(self) -> Any:
        if self._info.input == "images":
            import numpy as np

            return np.zeros(self._description["shape"]).tolist()
        return {column["name"]: None for column in self._description["columns"]}

    def _json(self) -> Target:
        limits = self._requests.json_limits(self._description, 4)
        model = self._requests.request_model(self._description, 4)
        first_error = self._module("serving.refusal").first_error

        def read(data: bytes) -> None:
            import pydantic

            limits.check(data)
            try:
                instances = model.model_validate_json(data).instances
            except pydantic.ValidationError as invalid:
                raise ValueError(first_error(invalid)[0]) from None
            self._requests.from_json(instances, self._description)

        row = self._row()
        return read, [json.dumps({"instances": rows}).encode() for rows in ([row], [row, row], [])]

    def _feedback(self) -> Target:
        rows = self._module("serving.rows").Rows(self._info.version, None)
        receiver = self._module("serving.feedback").Receiver(self._info, 4, None, rows)
        item = {"id": "0" * 32, "index": 0, "actual": self._description.get("classes", [1.5])[0]}
        lists: list[Any] = [[item], [item, {"id": "f" * 32, "actual": None}]]
        return (lambda data: receiver.take(data, {})), [json.dumps({"feedback": items}).encode() for items in lists]

    def _form(self) -> Target:
        from starlette.requests import Request

        uploaded = self._module("serving.body").uploaded_file
        headers = [(b"content-type", b"multipart/form-data; boundary=x")]
        loop = asyncio.new_event_loop()

        def read(data: bytes) -> None:
            loop.run_until_complete(uploaded(Request({"type": "http", "headers": headers}), data))

        lines = [b"--x", b'Content-Disposition: form-data; name="file"; filename="a"', b"Content-Type: text/csv"]
        part = b"\r\n".join([*lines, b"", b"a,b", b""])
        others = part.replace(b'="a"', b"*=utf-8''a")
        return read, [parts + b"--x--\r\n" for parts in (part, part + part, others)]

    def _keys(self) -> Target:
        clients, file = self._module("protection.clients"), self.scratch / "keys.yaml"
        limits = {"rate": "1/second", "answers": 9}
        clients.write(file, [clients.Client(name="a", sha256=("0" * 64,), roles=("predict",), **limits)])
        return self._of_file(file, clients.read), [file.read_bytes(), b"clients: []\n", b"clients: [&a {name: b}, *a]"]

    def _audit(self) -> Target:
        chain, verify = self._module("audit.chain"), self._module("audit.verify")
        for number in range(3):
            chain.append(self.scratch, [chain.Entry(1e9 + number, "start", {"client": "a"})])
        (file,) = (file for file in self.scratch.iterdir() if file.stat().st_size)
        return (lambda data: verify.verify(data.splitlines(keepends=True), "")), [file.read_bytes()]

    def _segments(self) -> Target:
        file = self.scratch / "a.jsonl.gz"
        segments = self._module("feedback.reading").Segments([file], [])

        def read(_: Path) -> None:
            labels = segments.labels()
            for _example in segments.labeled(labels):
                pass

        told = {"model_version": "a", "predictions": [{"label": "a"}]}
        request = {"time": 1e9, "id": "0" * 32, "request": {"instances": [{}]}, "answer": told}
        item = {"id": "0" * 32, "index": 0, "actual": "a"}
        lines = [request, {"time": 1e9, "contributor": "a", "feedback": [item]}]
        text = "\n".join(map(json.dumps, lines)).encode()
        run = self._of_file(file, read)
        # Mostly the lines: of a compressed file, nearly every change is found by its checksum.
        seeds = [text, b"z" + gzip.compress(text)]
        return (lambda data: run(data[1:] if data[:1] == b"z" else gzip.compress(data, 1))), seeds

    def _model_json(self) -> Target:
        model, info = self._module("exported.model"), self._module("serving.model").ModelInfo
        (self.scratch / "model.onnx").write_bytes((self._models / "model.onnx").read_bytes())
        file = self.scratch / "model.json"
        seeds = [(self._models / name).read_bytes() for name in ("model.json", "decision.json")]

        def check(path: Path) -> None:
            import pydantic

            content = model.served(path.parent)
            try:
                info.model_validate(content)
            except pydantic.ValidationError:  # of which the service tells that the file describes no model
                raise ValueError("model.json does not describe a model") from None

        read = self._of_file(file, check)
        decide = self._of_file(self.scratch / "decision.json", lambda path: model.served(path.parent))

        def both(data: bytes) -> None:
            if data.startswith(b"d"):
                file.write_bytes(seeds[0])
                decide(data[1:])
            else:
                (self.scratch / "decision.json").unlink(missing_ok=True)
                read(data)

        return both, [seeds[0], b"d" + seeds[1], b'{"sha256": 1}']

    def _model_onnx(self) -> Target:
        domains = self._module("exported.model").domains
        whole = (self._models / "model.onnx").read_bytes()
        seeds = [whole[:200] + whole[-200:], whole[-60:], b"B\x04\n\x00\x10\x0e"]
        return self._of_file(self.scratch / "model.onnx", domains), seeds

    def _reference(self) -> Target:
        read, seed = self._module("drift.reference").read, (self._models / "reference.json").read_bytes()
        file = self.scratch / "reference.json"
        small = json.loads(seed)
        small["variables"] = small["variables"][:2]
        seeds = [seed, json.dumps(small).encode()]
        return self._of_file(file, lambda path: read(path.parent, self._description)), seeds

    def _pictures(self) -> Target:
        import numpy as np
        from PIL import Image

        seeds = []
        pixels = np.arange(12 * 9 * 4, dtype=np.uint8).reshape(9, 12, 4)
        for mode in ("RGBA", "RGB", "L", "P", "1", "CMYK", "I;16", "LA"):
            for name in ("PNG", "JPEG", "GIF", "WEBP", "BMP"):
                file = io.BytesIO()
                try:
                    picture = Image.fromarray(pixels).convert("I" if mode == "I;16" else mode).convert(mode)
                    picture.save(file, name, exif=TURNED)
                except (OSError, ValueError):  # a format without this mode
                    continue
                seeds.append(file.getvalue())
        file = io.BytesIO()
        Image.fromarray(pixels[..., :3]).save(file, "JPEG", progressive=True)
        return (lambda data: self._requests.from_file(data, self._description)), [*seeds, file.getvalue()]

    def _arrays(self) -> Target:
        import numpy as np

        seeds = []
        for kind in (np.uint8, np.float32):
            file = io.BytesIO()
            np.save(file, np.zeros((1, *self._description["shape"]), kind))
            seeds.append(file.getvalue())
        return (lambda data: self._requests.from_npy(data, self._description, 4)), seeds

    def _tables(self) -> Target:
        names = list(self._row())
        seeds = [f"{mark.join(names)}\n{mark.join('1' * len(names))}\n{mark * (len(names) - 1)}\n" for mark in ",;\t"]
        encoded = [seeds[0].encode("utf-16"), seeds[0].replace(",", '","').encode(), b"PK\x03\x04", b"\x1f\x8b\x08\x00"]
        return (lambda data: self._requests.from_file(data, self._description)), [*map(str.encode, seeds), *encoded]

    @staticmethod
    def _of_file(file: Path, read: Callable[[Path], object]) -> Callable[[bytes], None]:
        def run(data: bytes) -> None:
            file.write_bytes(data)
            read(file)

        return run


class Judge:
    """Runs cases, and keeps those that are findings."""

    def __init__(self, run: Callable[[bytes], object], refusals: tuple[type[Exception], ...]) -> None:
        self._run, self._refusals = run, refusals
        self.cases = self.refused = 0
        self.slowest = 0.0
        self.findings: dict[str, str] = {}

    def __call__(self, data: bytes) -> None:
        """Runs a case."""
        self.cases += 1
        begin, finding = time.process_time(), ""
        try:
            self._run(data)
        except self._refusals as refused:
            self.refused += 1
            told = str(refused)
            if not told or "\n" in told or len(told) > 2000:
                finding = f"message {told[:200]!r}"
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-1]
            finding = f"{type(error).__name__} in {Path(frames.filename).name}:{frames.lineno}: {str(error)[:100]}"
        spent = time.process_time() - begin
        self.slowest = max(self.slowest, spent)
        if spent > SLOW:
            finding = f"{spent:.1f} s"
        if finding and len(self.findings) < 20:
            self.findings.setdefault(finding, base64.b64encode(data).decode())


def mutated(seeds: Sequence[bytes], cases: int, seed: int = 1) -> Iterator[bytes]:
    """Cases at random: seeds with bytes changed, removed, repeated, or taken from others."""
    drawn, known = random.Random(seed), list(seeds)
    yield from seeds
    for _ in range(cases - len(seeds)):
        case = bytearray(drawn.choice(known if drawn.random() < 0.7 else seeds))
        for _ in range(drawn.choice((1, 1, 2, 4, 16))):
            place, other = drawn.randrange(len(case) + 1), drawn.choice(known)
            length = drawn.choice((1, 2, 4, 16, 64))
            kind = drawn.randrange(6)
            if kind == 0 and place < len(case):
                case[place] = drawn.randrange(256)
            elif kind == 1 and place < len(case):
                case[place] ^= 1 << drawn.randrange(8)
            elif kind == 2:
                del case[place : place + length]
            elif kind == 3:
                case[place:place] = drawn.choice(WORDS)
            elif kind == 4:
                case[place:place] = case[place : place + length] * drawn.choice((1, 2, 30))
            else:
                start = drawn.randrange(len(other) + 1)
                case[place : place + length] = other[start : start + length]
        del case[LONGEST * 4 :]
        known[drawn.randrange(len(known))] = bytes(case) if len(known) >= KEPT else known[0]
        if len(known) < KEPT:
            known.append(bytes(case))
        yield bytes(case)


def guided(judge: Judge, seeds: Sequence[bytes], cases: int, scratch: Path, result: Path) -> None:
    """Runs cases that atheris makes; the result is written first, because atheris ends the process."""
    import atheris

    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)
    before = peak()

    def run(data: bytes) -> None:
        judge(data)
        if judge.cases == cases:
            result.write_text(json.dumps(told(judge, before)))
            os._exit(0)

    options = [f"-runs={cases * 2}", "-seed=1", f"-max_len={LONGEST}", "-rss_limit_mb=4096", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], run)
    atheris.Fuzz()


def peak() -> float:
    """Most memory of this process until now, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def told(judge: Judge, before: float) -> dict[str, Any]:
    """The result of a target."""
    more = peak() - before
    if more > MEMORY:
        judge.findings["memory"] = f"{more:.0f} MiB"
    figures = {"cases": judge.cases, "refused": judge.refused, "slowest_s": round(judge.slowest, 3)}
    return {**figures, "more_mib": round(more), "findings": judge.findings}


def instrumented(package: str, is_guided: bool) -> contextlib.AbstractContextManager[Any]:
    """A block whose imports tell atheris which lines they run, if it guides."""
    if not is_guided:
        return contextlib.nullcontext()
    import atheris

    imports: contextlib.AbstractContextManager[Any] = atheris.instrument_imports([package, "PIL", "yaml"])
    return imports


def one(made: Fuzzed, name: str, share: float, is_guided: bool, result: Path) -> None:
    """Runs one target in this process, and writes its result."""
    number, target = made.targets()[name]
    with instrumented(made.package, is_guided):
        run, seeds = target()
    judge = Judge(run, made.refusals)
    cases = max(len(seeds) + 1, int(number * share / 100))
    if is_guided:
        guided(judge, seeds, cases, made.scratch, result)
        return
    for case in seeds:  # what a target imports at its first use is no memory of a case
        judge(case)
    before = peak()
    for case in mutated(seeds, cases):
        judge(case)
    result.write_text(json.dumps(told(judge, before)))


def results(project: Path, package: str, arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs the targets one after the other, and yields the name and the result of each."""
    shared = Path("/dev/shm")  # of Linux: cases that a target reads from a file touch no disk
    where = shared if shared.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=where) as folder:
        with instrumented(package, arguments.guided):
            made = Fuzzed(project, package, Path(folder))
        for name in arguments.only or made.targets():
            made.scratch, result = Path(folder) / name, Path(folder) / f"{name}.result"
            made.scratch.mkdir()
            child = multiprocessing.get_context("fork").Process(
                target=one, args=(made, name, arguments.cases, arguments.guided, result)
            )
            child.start()
            child.join()
            ended = {"cases": 0, "findings": {f"ended with {child.exitcode}": ""}}
            yield name, json.loads(result.read_text()) if result.exists() else ended


def main() -> None:
    """Runs the targets, and prints what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("project", type=Path)
    parser.add_argument("--cases", type=float, default=100, help="percent of the cases")
    parser.add_argument("--only", action="append", help="name of a target; repeatable")
    parser.add_argument("--guided", action="store_true", help="with atheris")
    arguments = parser.parse_args()
    project = arguments.project.resolve()
    if not (project / "models/model.json").exists():
        raise SystemExit(f"{project} is no project after `dvc repro`: name one, or run `make demo` first")
    (package,) = (path.name for path in (project / "src").iterdir() if (path / "service.py").exists())
    os.chdir(project)
    sys.path.insert(0, str(project / "src"))
    logging.disable()  # parsers tell of malformed forms
    every = {}
    for name, found in results(project, package, arguments):
        every[name] = found
        figures = [f"{key} {value}" for key, value in found.items() if key != "findings"]
        print(f"{name}: {', '.join(figures)}; {len(found['findings'])} finding(s)", flush=True)
        for finding, case in found["findings"].items():
            print(f"  {finding}: {case[:200]}", flush=True)
    print(json.dumps(every))
    sys.exit(any(found["findings"] for found in every.values()))


if __name__ == "__main__":
    main()
