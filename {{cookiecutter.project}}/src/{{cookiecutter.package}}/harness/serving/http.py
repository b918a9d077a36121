"""The HTTP service of an exported ONNX model: /predict and /predict_file.

The module imports nothing heavy, because `bentoml serve` also imports it in its supervisor, which never predicts. A
worker loads NumPy, ONNX Runtime and the input decoder in `ModelService.__init__`. TensorFlow, MLflow, DVC and Hydra are
not installed in the environment of a Bento.
"""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bentoml
import pydantic
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..core.paths import NAME
from ..exported import NOT_FINITE
from ..inputs.contracts import ArrayDecoder
from .admission import Admission
from .body import JSON, Bodies, uploaded_file
from .labels import BuildLabels
from .limits import Limits
from .metrics import BUCKETS, predicted, refused
from .model import FOLDER, read_model_info
from .openapi import NPY, complete
from .refusal import Refusal
from .routes import Routes

if TYPE_CHECKING:
    import numpy as np
    from starlette.types import ASGIApp

    Array = np.ndarray[Any, Any]

TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "object"}


class _Unread(bentoml.IODescriptor):
    """An input that BentoML describes to clients and hands over unread.

    BentoML 1.4's parsing answers some bad requests with 500 and a traceback in the log, decodes images of any size, and
    fetches a URL that is given in place of an image.
    """

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> _Unread:
        """Sets every field to the unread request."""
        unread: _Unread = cls.model_construct(**dict.fromkeys(cls.model_fields, request))
        return unread


class Instances(_Unread):
    """Arrays of pixel values, or rows of a table."""

    instances: list[Any]


class File(_Unread):
    """A file in a multipart form: a picture or a CSV table."""

    file: Path


class Predictions(pydantic.BaseModel):
    """The answer: a prediction for each instance, in input order."""

    model_version: str
    predictions: list[Any]


class _Service(bentoml.Service[Any]):
    """A BentoML service that sheds load and describes itself completely."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that a worker serves."""
        app, version = super().to_asgi(is_main), read_model_info().version
        admission = Admission(app, self.inner.limits.pending, refused("busy", version))
        return Routes(admission, app.routes, refused("path", version))

    @property
    def openapi_spec(self) -> Any:
        """The complete OpenAPI document."""
        spec = bentoml.Service.openapi_spec.fget(self)
        return complete(spec, read_model_info(), self.inner.limits, str(self.inner.__doc__))


# https://docs.bentoml.com/en/latest/reference/bentoml/configurations.html
OPTIONS: dict[str, Any] = {
    "name": NAME,
    "service_class": _Service,
    "labels": BuildLabels(),
    "workers": 1,
    # Short, because BentoML keeps a timer for the whole timeout, even after the request is answered.
    "traffic": {"timeout": 10},
    "metrics": {"duration": {"buckets": BUCKETS}},
    # /metrics counts the requests; an access log adds about 0.1 ms to each.
    "logging": {"access": {"enabled": False}},
    # BentoML creates four spans per request even if nothing collects them; without them, a request takes 0.6 ms instead
    # of 1.3 ms. To trace, set an exporter and an empty `excluded_urls` in the file that BENTOML_CONFIG names.
    "tracing": {"excluded_urls": [".*"]},
}


class ModelService:
    """The endpoints of a model.

    Attributes:
        limits: Limits of the requests.
        info: The description of the model.
    """

    limits = Limits()

    def __init__(self) -> None:
        """Loads the model and runs it once; the server is then ready."""
        import numpy as np
        import onnxruntime as ort

        self._numpy = np
        self.info = read_model_info()
        self._description = self.info.model_dump()
        self._requests = self.info.requests
        self._target = self.info.answers
        self._request_model = self._requests.request_model(self._description, self.limits.instances)
        options = ort.SessionOptions()
        # One thread per worker: inside a small model, threads cost more than they gain. Scale by `workers`.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(FOLDER / "model.onnx", options, ["CPUExecutionProvider"])
        # Files can be large: they are read in a thread, so that the event loop goes on answering, and one at a time, so
        # that several of them do not fill the memory.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._bodies = Bodies(self.limits, refused("bytes", self.info.version))
        self._warm_up()

    def _warm_up(self) -> None:
        # The first run allocates memory and is slow; no client should wait for it.
        feeds = {}
        for value in self._session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in value.shape]
            feeds[value.name] = self._numpy.full(shape, "" if "string" in value.type else 0, TYPES[value.type])
        self._run(feeds)

    @bentoml.on_deployment
    @staticmethod
    def check_model() -> None:
        """Verifies the model before workers start.

        It fails once, with one line; workers that fail are restarted forever.
        """
        read_model_info()

    @bentoml.api(input_spec=Instances, output_spec=Predictions)
    async def predict(self, instances: Request) -> Response:
        """Predict instances: arrays of pixel values (0 to 255), or table rows."""
        content_types = [JSON, *([NPY] if isinstance(self._requests, ArrayDecoder) else [])]
        try:
            async with self._bodies.read(instances, *content_types) as (content_type, body):
                # On the event loop, because changing to a thread and back costs as much as a small model.
                feeds = self._parse(body) if content_type == JSON else self._read_npy(body)
                return self._answer(self._run(feeds), instances)
        except Refusal as refusal:
            return refusal.response()

    @bentoml.api(input_spec=File, output_spec=Predictions)
    async def predict_file(self, file: Request) -> Response:
        """Predict a file: a picture, or a CSV table with a header."""
        try:
            async with self._bodies.read(file, "multipart/form-data") as (_, body):
                data = await uploaded_file(file, body)
                loop = asyncio.get_running_loop()
                return self._answer(await loop.run_in_executor(self._reader, self._run_file, data), file)
        except Refusal as refusal:
            return refusal.response()

    def _parse(self, body: bytes) -> dict[str, Array]:
        try:
            request: Any = self._request_model.model_validate_json(body)
        except pydantic.ValidationError as invalid:
            raise Refusal(400, self._first_error(invalid)) from None
        try:
            return self._requests.from_json(request.instances, self._description)
        except ValueError as error:
            raise Refusal(400, str(error)) from None

    def _first_error(self, invalid: pydantic.ValidationError) -> str:
        error = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error["loc"])[1:]
        message = f"{place}: {error['msg']}" if place else error["msg"]
        if place.startswith("instances["):
            instance = self._requests.instance(self._description)
            # All columns of a wide table are named only if one is missing or unknown.
            if len(instance) < 200 or error["type"] in ("missing", "extra_forbidden"):
                message += f" (an instance is {instance})"
        return message

    def _read_npy(self, body: bytes) -> dict[str, Array]:
        assert isinstance(self._requests, ArrayDecoder)  # no other request has this content type
        try:
            return self._requests.from_npy(body, self._description, self.limits.instances)
        except ValueError as error:
            raise Refusal(400, str(error)) from None

    def _run_file(self, data: bytes) -> Array:
        try:
            return self._run(self._requests.from_file(data, self._description))
        except ValueError as error:  # a Refusal is not a ValueError
            raise Refusal(400, f"file: {error}") from None

    def _run(self, feeds: dict[str, Array]) -> Array:
        output: Array = self._session.run([self._target.OUTPUT], feeds)[0]
        if not self._numpy.isfinite(output).all():  # JSON has no infinity
            raise Refusal(400, NOT_FINITE)
        return output

    def _answer(self, output: Array, request: Request) -> Response:
        for label, count in self._target.counts(output, self._description).items():
            predicted().labels(label, self.info.version).inc(count)
        if NPY in request.headers.get("accept", ""):
            array = io.BytesIO()
            self._numpy.save(array, output)
            return Response(array.getvalue(), headers={"model-version": self.info.version}, media_type=NPY)
        predictions = self._target.answers(output, self._description)
        return JSONResponse({"model_version": self.info.version, "predictions": predictions})
