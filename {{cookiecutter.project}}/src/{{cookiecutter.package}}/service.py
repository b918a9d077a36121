"""The HTTP service: answers from the exported ONNX model, asked as `inputs` says for pictures or for tables.

    bentoml serve                               a supervisor and its workers
    python -m <package>.service [--port PORT]   one process: a third less memory, starts sooner

The module imports nothing heavy: `bentoml serve` imports it in its supervisor as well, which never predicts:
NumPy, ONNX Runtime and what reads the inputs would only delay its start and fill its memory. A worker loads them in
`Service.__init__`. TensorFlow, MLflow, DVC and Hydra are not even installed where a Bento runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib
import io
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import attrs
import bentoml
import pydantic
import yaml
from bentoml.exceptions import BentoMLException
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .harness.core.paths import NAME, SOURCES
from .harness.serving import page
from .harness.serving.admission import BUSY, LATER, Admission

if TYPE_CHECKING:
    import numpy as np
    from prometheus_client import Counter
    from starlette.types import ASGIApp

# Beside src/ in the project; beside the package in a Bento, which packs the content of src/ without the folder.
_ROOTS = SOURCES.parent, SOURCES
MODEL_DIR = next((root for root in _ROOTS if (root / "models/model.json").exists()), _ROOTS[0]) / "models"
MAX_INSTANCES = 256
MAX_BODY = 32 * 2**20
MAX_HELD = 4 * MAX_BODY  # of all requests that are being read or answered
NPY = "application/x-npy"


class ModelInfo(pydantic.BaseModel, extra="allow"):
    """The content of models/model.json: here what every model has, beside what its inputs and its target want."""

    input: str
    target: str
    sha256: str

    @property
    def version(self) -> str:
        """Names the model in answers."""
        return self.sha256[:12]

    @property
    def inputs(self) -> ModuleType:
        """Reads requests."""
        return importlib.import_module(f".harness.inputs.{self.input}", __package__)

    @property
    def answers(self) -> ModuleType:
        """Makes answers."""
        return importlib.import_module(f".harness.targets.{self.target}", __package__)


class Predictions(pydantic.BaseModel):
    """The answer: one prediction for each instance sent, in their order."""

    model_version: str
    predictions: list[Any]


class _Unread(bentoml.IODescriptor):
    """An input that BentoML describes to clients and hands over unread.

    Reading it itself, BentoML 1.4 answers some bad requests with 500, writes a traceback to the log for each,
    decodes images of any size and fetches the URL it finds where an image should be.
    """

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> _Unread:
        """Put the request where its fields should be."""
        unread: _Unread = cls.model_construct(**dict.fromkeys(cls.model_fields, request))
        return unread


class Instances(_Unread):
    """Arrays of pixel values, or rows of a table."""

    instances: list[Any]


class File(_Unread):
    """A file in a multipart form: a picture, or a table as CSV."""

    file: Path


class Refusal(Exception):
    """The request cannot be answered, and why: becomes a 4xx, or a 503, with a JSON message."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the status code and one line for a person."""
        super().__init__(message)
        self.status = status

    def response(self) -> Response:
        """Return the answer to send."""
        return JSONResponse({"error": str(self)}, self.status, headers=LATER if self.status == 503 else None)


def read_model_info() -> ModelInfo:
    """Read models/model.json and check that models/model.onnx is what it describes, and what the Bento records."""
    try:
        info = ModelInfo.model_validate_json((MODEL_DIR / "model.json").read_bytes())
        with (MODEL_DIR / "model.onnx").open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BentoMLException(f"there is no {error.filename}: run `dvc repro` first") from None
    except ValueError as error:
        raise BentoMLException(f"{MODEL_DIR / 'model.json'} is not readable: run `dvc repro`") from error
    if digest != info.sha256:
        raise BentoMLException(f"{MODEL_DIR / 'model.onnx'} differs from model.json: run `dvc repro`")
    # Both may have been exchanged together: what the Bento's labels record is the model that they describe.
    record = _ROOTS[0] / "bento.yaml"
    if record.exists():
        recorded = (yaml.safe_load(record.read_bytes()).get("labels") or {}).get("model_sha256", digest)
        if recorded != digest:
            raise BentoMLException(
                f"{MODEL_DIR / 'model.onnx'} is not the model of this Bento ({record}: {recorded[:12]}, the file: "
                f"{digest[:12]}): build the Bento again"
            )
    return info


class _BuildLabels:
    """Labels of a Bento, computed when `bentoml build` reads them.

    Serving must neither wait for git and MLflow nor need them, and a Bento has no lineage module at all.
    """

    def keys(self) -> Iterable[str]:
        """Compute the labels, of which `dict.update` asks the names first."""
        from .harness.tracking.labels import labels

        # For a Dockerfile of our own BentoML falls back to an older form of its file, and warns of that at every build.
        logging.getLogger("bentoml.build").addFilter(lambda record: "fallback to bento v1" not in record.getMessage())
        read_model_info()  # No Bento without its model.
        try:
            self._labels = labels()
        except Exception as error:
            raise BentoMLException(f"cannot label the Bento: {error}") from error
        return self._labels.keys()

    def __getitem__(self, key: str) -> str:
        return self._labels[key]


class _Service(bentoml.Service[Any]):
    """BentoML's, with a limit to what waits, and a document that is complete."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return what a worker serves."""
        return Admission(super().to_asgi(is_main), _refused())

    @property
    def openapi_spec(self) -> Any:
        """Complete what BentoML generates: neither the shape of the arrays nor the answers to bad requests is in it."""
        spec = bentoml.Service.openapi_spec.fget(self)
        info = read_model_info()
        instance = info.inputs.instance_schema(info.model_dump())
        prediction = {"type": "array", "items": info.answers.answer_schema(info.model_dump())}
        answer = _object(model_version={"type": "string"}, predictions=prediction)
        instances = {"type": "array", "minItems": 1, "maxItems": MAX_INSTANCES, "items": instance}
        file = {"type": "string", "format": "binary", "description": info.inputs.FILE}
        npy = {"type": "string", "format": "binary", "description": "An array as numpy.save writes it"}
        bodies = {
            "/predict": {"application/json": _object(instances=instances)}
            | ({NPY: npy} if hasattr(info.inputs, "from_npy") else {}),
            "/predict_file": {"multipart/form-data": _object(file=file)},
        }
        for path, body in bodies.items():
            operation = spec.paths[path].post
            operation["requestBody"] = {"required": True, "content": _content(body)}
            error = {"application/json": _object(error={"type": "string"})}
            operation["responses"] = {
                status: {"description": description, "content": _content(schemas)}
                for status, description, schemas in (
                    ("200", "A prediction for each instance, in their order", {"application/json": answer, NPY: npy}),
                    ("400", "The content cannot be used; `error` says why", error),
                    ("413", f"The request is larger than {MAX_BODY} bytes", error),
                    ("415", f"The content type is not {' or '.join(body)}", error),
                    ("503", "Too many requests are waiting: ask again later, as Retry-After says", error),
                )
            }
        return attrs.evolve(spec, info=attrs.evolve(spec.info, version=info.version, description=self.inner.__doc__))


@cache
def _refused() -> Counter:
    counter: Counter = bentoml.metrics.Counter(
        name="refused_total", documentation="Requests refused with 503, for too many were waiting"
    )
    return counter


def _content(schemas: dict[str, Any]) -> dict[str, Any]:
    return {media_type: {"schema": schema} for media_type, schema in schemas.items()}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


@bentoml.service(
    name=NAME,
    service_class=_Service,
    labels=_BuildLabels(),
    workers=1,
    # A timer of BentoML lives for the whole timeout even when its request is long answered.
    traffic={"timeout": 10},
    # Every request is counted under /metrics; a line for each adds about 0.1 ms to it.
    logging={"access": {"enabled": False}},
    # BentoML makes four spans for each request even where nothing collects them: without, 1.3 ms became 0.6 ms. To
    # trace, give an exporter and an empty `excluded_urls` in the file that BENTOML_CONFIG names.
    tracing={"excluded_urls": [".*"]},
)
class Service:
    """Answers instances at /predict, and a file at /predict_file."""

    def __init__(self) -> None:
        """Load the model and run it once: the server is ready after this."""
        import numpy as np
        import onnxruntime as ort

        self._numpy = np
        self.info = read_model_info()
        self._description = self.info.model_dump()
        self._inputs = self.info.inputs
        self._target = self.info.answers
        self._request_model = self._inputs.request_model(self._description, MAX_INSTANCES)
        options = ort.SessionOptions()
        # One thread for each worker: what runs in parallel is requests. Threads that wait for each other inside
        # one small model cost more than they bring. Scale by `workers`.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(MODEL_DIR / "model.onnx", options, ["CPUExecutionProvider"])
        # A picture may hold `max_pixels`, a file many rows: read it off the event loop, which goes on answering, and
        # one at a time, so that several large ones do not fill the memory.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._held = 0  # bytes of bodies
        self._counter = bentoml.metrics.Counter(
            name="predictions_total",
            documentation="Predictions, by class where there are classes",
            labelnames=["label"],
        )
        # The first run allocates and is slow: better here than for the first client.
        types = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(string)": np.object_}
        shapes = {i.name: [n if isinstance(n, int) else 1 for n in i.shape] for i in self._session.get_inputs()}
        self._run(
            {
                i.name: np.full(shapes[i.name], "" if "string" in i.type else 0, types[i.type])
                for i in self._session.get_inputs()
            }
        )

    @bentoml.on_deployment
    @staticmethod
    def check_model() -> None:
        """Fail once, with one line, before workers start: a worker that fails is started again for ever."""
        read_model_info()

    @bentoml.api(input_spec=Instances, output_spec=Predictions)
    async def predict(self, instances: Request) -> Response:
        """Answer instances: arrays of raw pixel values (0 to 255), or rows of a table as objects."""
        kinds = ["application/json", *([NPY] if hasattr(self._inputs, "from_npy") else [])]
        try:
            async with self._body(instances, *kinds) as (kind, body):
                # On the event loop on purpose: changing to a thread and back costs as much as a small model.
                feeds = self._parse(body) if kind == "application/json" else self._read_npy(body)
                return self._answer(self._run(feeds), instances)
        except Refusal as refusal:
            return refusal.response()

    @bentoml.api(input_spec=File, output_spec=Predictions)
    async def predict_file(self, file: Request) -> Response:
        """Answer a file: a picture, or a table as CSV with a header."""
        try:
            async with self._body(file, "multipart/form-data") as (_, body):
                data = await _uploaded(file, body)
                loop = asyncio.get_running_loop()
                return self._answer(await loop.run_in_executor(self._reader, self._run_file, data), file)
        except Refusal as refusal:
            return refusal.response()

    @contextlib.asynccontextmanager
    async def _body(self, request: Request, *kinds: str) -> AsyncIterator[tuple[str, bytes]]:
        """Read the body of a request and give it and its content type; hold it until the block ends."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in kinds:
            raise Refusal(415, f"the content type must be {' or '.join(kinds)}, not {kind or 'missing'}")
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                self._held += len(chunk)
                if len(body) > MAX_BODY:
                    raise Refusal(413, f"the request is larger than {MAX_BODY} bytes")
                if self._held > MAX_HELD:
                    _refused().inc()
                    raise Refusal(503, BUSY)
            yield kind, bytes(body)
        finally:
            self._held -= len(body)

    def _parse(self, body: bytes) -> dict[str, np.ndarray]:
        try:
            request: Any = self._request_model.model_validate_json(body)
        except pydantic.ValidationError as invalid:
            error = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])[1:]
            message = f"{place}: {error['msg']}" if place else error["msg"]
            if place.startswith("instances["):
                instance = self._inputs.instance(self._description)
                # Of a wide table all columns are named only where they are what is wrong.
                if len(instance) < 200 or error["type"] in ("missing", "extra_forbidden"):
                    message += f" (an instance is {instance})"
            raise Refusal(400, message) from None
        feeds: dict[str, np.ndarray] = self._inputs.from_json(request.instances, self._description)
        return feeds

    def _read_npy(self, body: bytes) -> dict[str, np.ndarray]:
        try:
            feeds: dict[str, np.ndarray] = self._inputs.from_npy(body, self._description, MAX_INSTANCES)
        except ValueError as error:
            raise Refusal(400, str(error)) from None
        return feeds

    def _run_file(self, data: bytes) -> np.ndarray:
        try:
            return self._run(self._inputs.from_file(data, self._description))
        except ValueError as error:  # a Refusal is none
            raise Refusal(400, f"file: {error}") from None

    def _run(self, feeds: dict[str, np.ndarray]) -> np.ndarray:
        output: np.ndarray = self._session.run([self._target.OUTPUT], feeds)[0]
        if not self._numpy.isfinite(output).all():  # JSON has no infinity
            raise Refusal(400, "the model's answer is no finite number: a value is too extreme")
        return output

    def _answer(self, output: np.ndarray, request: Request) -> Response:
        for label, count in self._target.counts(output, self._description).items():
            self._counter.labels(label=label).inc(count)
        if NPY in request.headers.get("accept", ""):
            array = io.BytesIO()
            self._numpy.save(array, output)
            return Response(array.getvalue(), headers={"model-version": self.info.version}, media_type=NPY)
        predictions = self._target.answers(output, self._description)
        return JSONResponse({"model_version": self.info.version, "predictions": predictions})


def _described() -> dict[str, Any]:
    """Return what the page must know of the model."""
    info = read_model_info()
    description = info.model_dump()
    return {
        "version": info.version,
        "target_name": description["target_name"],
        "schema": info.inputs.instance_schema(description),
        "file": info.inputs.FILE,
        "level": getattr(info.answers, "LEVEL", None),  # of the intervals, where answers have one
    }


if page.enabled():
    bentoml.asgi_app(page.app(_described, MODEL_DIR / "page.json"))(Service)


async def _uploaded(request: Request, body: bytes) -> bytes:
    """Return the one file of a multipart form, whose field is `file`."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await MultiPartParser(request.headers, chunks(), max_files=1, max_fields=1).parse()
    except MultiPartException as error:
        raise Refusal(400, f"malformed form: {error.message}") from None
    except Exception as error:  # The parser below Starlette raises others, KeyError for a missing boundary.
        raise Refusal(400, f"malformed form: {type(error).__name__}") from None
    try:
        upload = form.get("file")
        if not isinstance(upload, UploadFile) or len(form) != 1:
            raise Refusal(400, "the form must have exactly one field: a file named `file`")
        return await upload.read()
    finally:
        await form.close()


def main() -> None:
    """Serve in this one process, which does what a worker of `bentoml serve` does.

    For where something else starts it again, as a container platform does, and for a quick look.
    """
    import argparse
    import os
    import signal
    import socket
    import sys
    import tempfile

    import click
    import uvicorn
    from _bentoml_impl.worker.service import main as work  # type: ignore[import-untyped]

    from .harness.serving.server import Server

    parser = argparse.ArgumentParser(prog=f"python -m {__package__}.service", description="Serve the model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    arguments = parser.parse_args()
    try:
        read_model_info()
        listening = socket.create_server((arguments.host, arguments.port), backlog=2048)
    except (BentoMLException, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    path = "/ui" if page.enabled() else ""
    print(f"Serving on http://{arguments.host}:{arguments.port}{path} (Ctrl-C stops)", flush=True)
    uvicorn.Server = Server  # type: ignore[misc] # what `work` runs
    # Ends by an exception, so that the files of the metrics are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="metrics-") as metrics:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
        try:
            # The folder of bentofile.yaml in the project, of bento.yaml in a Bento.
            options = ["--fd", str(listening.detach()), "--worker-id", "1", "--timeout-graceful-shutdown", "10"]
            work.main([str(_ROOTS[0]), *options], standalone_mode=False)
        except click.exceptions.Abort:
            pass


if __name__ == "__main__":
    main()
