"""The HTTP service of an exported ONNX model: /predict, /predict_file and /explain.

The module imports nothing heavy, because `bentoml serve` also imports it in its supervisor, which never predicts. A
worker loads NumPy, ONNX Runtime and the input decoder in `ModelService.__init__`. TensorFlow, MLflow, DVC and Hydra are
not installed in the environment of a Bento.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import bentoml
import pydantic
from bentoml.exceptions import BentoMLException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..capture.answered import Answered, new_id
from ..core.paths import NAME
from ..exported import NOT_FINITE
from ..inputs.contracts import ArrayDecoder, JsonLimits
from . import auditing, brief, checks, counting, explain, feedback, page, protected, release
from .admission import Admission
from .body import FORM, JSON, check_size, read, uploaded_file
from .interfaces import ANSWERS, Actual, Explanations, File, Instances, Outcomes, Predictions, predictions_response
from .labels import BuildLabels
from .limits import Limits
from .log import open_log
from .metrics import BUCKETS, PREDICTIONS, counter, refused
from .model import FOLDER, read_model_info
from .observer import Observer
from .openapi import NPY, PREDICTION_ID, complete
from .refusal import BUSY, Refusal, first_error
from .routes import Routes
from .switches import tells_labels_only

if TYPE_CHECKING:
    import numpy as np
    from starlette.types import ASGIApp

    Array = np.ndarray[Any, Any]

SWITCH = 0.0005  # seconds after which another thread gets its turn
LONG = 0.05  # seconds that a request may take the event loop


class _Service(bentoml.Service[Any]):
    """A BentoML service that sheds load and describes itself completely."""

    def __attrs_post_init__(self) -> None:
        """Leaves out /explain and /feedback, unless they are switched on."""
        super().__attrs_post_init__()
        for name, switch in (("explain", explain), ("feedback", feedback)):
            if not switch.enabled():
                self.apis.pop(name, None)

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The application that a worker serves."""
        from . import protocol, server, tls  # here, because the supervisor needs no server

        app, version = super().to_asgi(is_main), read_model_info().version
        app.user_middleware = [middleware for middleware in app.user_middleware if not _idle(middleware)]
        app.router.routes.insert(0, page.documentation())
        protocol.install()
        server.install()
        tls.install()
        count = partial(refused, version=version)
        guarded = protected.guarded(Admission(app, self.inner.limits, count), count, version)
        return release.named(Routes(guarded, app.routes, count("path")))

    @property
    def openapi_spec(self) -> Any:
        """The complete OpenAPI document."""
        spec = bentoml.Service.openapi_spec.fget(self)
        return protected.documented(complete(spec, read_model_info(), self.inner.limits, str(self.inner.__doc__)))


def _idle(middleware: Middleware) -> bool:
    """Whether a middleware for tracing excludes all requests."""
    # It would find that out for each request, which takes 0.1 ms.
    excluded: Any = middleware.kwargs.get("excluded_urls")
    return excluded is not None and excluded.url_disabled("")


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

        from .rows import Rows  # here, because it imports NumPy

        self._numpy = np
        self.info = read_model_info()
        self._description = self.info.model_dump()
        if "max_pixels" in self._description:
            self._description["max_pixels"] = min(self._description["max_pixels"], self.limits.pixels)
        self._requests = self.info.requests
        self._target = self.info.answers
        self._json = self._requests.json_limits(self._description, self.limits.instances)
        self._request_model = self._requests.request_model(self._description, self._json.instances)
        options = ort.SessionOptions()
        # One thread per worker: inside a small model, threads cost more than they gain. Scale by `workers`.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(FOLDER / "model.onnx", options, ["CPUExecutionProvider"])
        # Files and batches of large models take long: they are read and answered in a thread, so that the event loop
        # goes on answering, and one at a time, so that several of them do not fill the memory.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._busy = refused("busy", self.info.version)
        self._brief = tells_labels_only()
        # Determined once: this check of a protocol takes as long as parsing a small request.
        self._content_types = (JSON, NPY) if isinstance(self._requests, ArrayDecoder) else (JSON,)
        if explain.enabled():
            self._explainer = explain.explainer(self.info, self._run)
            self._explain_json = self._requests.json_limits(self._description, self.limits.explained)
            self._explain_model = self._requests.request_model(self._description, self._explain_json.instances)
            # In a thread of its own, one request at a time: predictions do not wait for explanations.
            self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explain")
            self._explaining_requests = 0
        # BentoML otherwise makes the function of an endpoint anew for each request, from its inspected signature.
        vars(self).update({name: getattr(self, name) for name in ("predict", "predict_file", "explain", "feedback")})
        reference = counting.reference(self.info)
        self._warm_up()
        log = open_log(self.info)
        # Python's 5 ms would let a request wait that long for a scrape of /metrics, which takes several turns.
        sys.setswitchinterval(SWITCH)
        self._facts = counting.facts(self.info, reference)
        self._rows = Rows(self.info.version, reference)
        counts = counting.Counting(reference, self._rows) if reference else None
        receives = partial(feedback.Receiver, self.info, self.limits.instances, log, self._rows)
        self._feedback = receives() if feedback.enabled() else None
        auditing.start(self.info, self.limits)
        self._observer = Observer([consumer for consumer in (counts, log) if consumer])

    @bentoml.on_shutdown
    def close(self) -> None:
        """Counts and keeps the last answers, after they are sent."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._observer.close()
        auditing.stop()

    async def __metrics__(self, text: str) -> str:
        """The answer to /metrics: what BentoML has collected, and what does not change."""
        from . import tls

        return text + self._facts + self._rows.text() + tls.facts(self.info.version)

    def _warm_up(self) -> None:
        from ..exported import golden  # here, because it imports NumPy

        # The first run allocates memory and is slow; no client should wait for it.
        reference = release.reference()
        feeds = golden.probe(self._session.get_inputs(), reference)
        if feeds.keys() != self._requests.names(self._description):
            names = ", ".join(sorted(feeds)[:9])
            raise BentoMLException(
                f"{FOLDER / 'model.onnx'} has other inputs ({names}) than model.json: run `dvc repro`"
            )
        release.check_answer(reference, self._run(feeds))
        begin = time.perf_counter()
        self._run(feeds)
        self._seconds = time.perf_counter() - begin  # of an instance, at most

    @bentoml.on_deployment
    @staticmethod
    def check_model() -> None:
        """Verifies the model before workers start.

        It fails once, with one line; workers that fail are restarted forever.
        """
        checks.check_model()

    @bentoml.api(input_spec=Instances, output_spec=Predictions)
    async def predict(self, instances: Request) -> Response:
        """Predict instances: arrays of pixel values (0 to 255), or table rows."""
        try:
            content_type, body = await read(instances, *self._content_types)
            if content_type == JSON:
                feeds = self._parse(body, self._request_model, self._json)
            else:
                feeds = self._read_npy(body, self.limits.instances)
            count = len(next(iter(feeds.values())))
            if count * self._seconds > LONG:
                loop = asyncio.get_running_loop()
                output = await loop.run_in_executor(self._reader, self._run, feeds)
            else:  # on the event loop, because changing to a thread and back costs as much as a small model
                output = self._run(feeds)
            return self._answer(instances, content_type, body, feeds, output)
        except Refusal as refusal:
            return refusal.response()

    @bentoml.api(input_spec=File, output_spec=Predictions)
    async def predict_file(self, file: Request) -> Response:
        """Predict a file: a picture, or a CSV table with a header."""
        try:
            _, body = await read(file, FORM)
            data = await uploaded_file(file, body)
            return await asyncio.get_running_loop().run_in_executor(self._reader, self._answer_file, file, data)
        except Refusal as refusal:
            return refusal.response()

    @bentoml.api(input_spec=Instances, output_spec=Explanations)
    async def explain(self, instances: Request) -> Response:
        """Explain predictions: instances as /predict takes them, or a file."""
        if self._explaining_requests >= self.limits.explaining:
            self._busy.inc()
            return Refusal(503, BUSY).response()
        self._explaining_requests += 1
        try:
            wanted = explain.wants_counterfactuals(instances, self._explainer)
            content_type, body = await read(instances, *self._content_types, FORM)
            if content_type == FORM:
                body = await uploaded_file(instances, body)
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._explaining, self._explain, instances, content_type, body, wanted)
        except Refusal as refusal:
            return refusal.response()
        finally:
            self._explaining_requests -= 1

    @bentoml.api(input_spec=Actual, output_spec=Outcomes)
    async def feedback(self, feedback: Request) -> Response:
        """Tell the actual values of earlier predictions."""
        assert self._feedback is not None  # otherwise there is no such path
        try:
            _, body = await read(feedback, JSON)
            outcomes = self._feedback.take(body, feedback.headers)
            auditing.record("feedback", feedback, **Counter(outcomes))
            return JSONResponse({"model_version": self.info.version, "outcomes": outcomes})
        except Refusal as refusal:
            return refusal.response()

    def _explain(self, request: Request, content_type: str, body: bytes, with_counterfactuals: bool) -> Response:
        most = self.limits.explained
        if content_type == JSON:
            feeds = self._parse(body, self._explain_model, self._explain_json)
        else:
            feeds = self._read_file(body) if content_type == FORM else self._read_npy(body, most)
        count = len(next(iter(feeds.values())))
        if count > most:
            raise Refusal(400, f"file: it has {count:,} rows, of which at most {most} are explained at once")
        output, explanations = self._explainer.explain(feeds, with_counterfactuals)
        answer = self._predictions(output)
        pairs = zip(answer["predictions"], explanations, strict=True)
        answers = [{"prediction": prediction} | found for prediction, found in pairs]
        told = bytes(JSONResponse(answer).body)
        self._observe(request, Answered(time.time(), answer["id"], content_type, body, feeds, output, told))
        auditing.record("explain", request, id=answer["id"], rows=count)
        return JSONResponse({key: answer[key] for key in ("id", "model_version")} | {"explanations": answers})

    def _parse(self, body: bytes, model: type[pydantic.BaseModel], limits: JsonLimits) -> dict[str, Array]:
        check_size(body, limits)
        try:
            request: Any = model.model_validate_json(body)
        except pydantic.ValidationError as invalid:
            raise Refusal(400, self._first_error(invalid)) from None
        try:
            return self._requests.from_json(request.instances, self._description)
        except ValueError as error:
            raise Refusal(400, str(error)) from None

    def _first_error(self, invalid: pydantic.ValidationError) -> str:
        message, kind = first_error(invalid)
        if message.startswith("instances["):
            instance = self._requests.instance(self._description)
            # All columns of a wide table are named only if one is missing or unknown.
            if len(instance) < 200 or kind in ("missing", "extra_forbidden"):
                message += f" (an instance is {instance})"
        return message

    def _read_npy(self, body: bytes, most: int) -> dict[str, Array]:
        assert isinstance(self._requests, ArrayDecoder)  # no other request has this content type
        try:
            return self._requests.from_npy(body, self._description, most)
        except ValueError as error:
            raise Refusal(400, str(error)) from None

    def _answer_file(self, request: Request, data: bytes) -> Response:
        feeds = self._read_file(data)
        return self._answer(request, FORM, data, feeds, self._run(feeds))

    def _read_file(self, data: bytes) -> dict[str, Array]:
        try:
            return self._requests.from_file(data, self._description)
        except ValueError as error:  # a Refusal is not a ValueError
            raise Refusal(400, f"file: {error}") from None

    def _run(self, feeds: dict[str, Array]) -> Array:
        output: Array = self._session.run([self._target.OUTPUT], feeds)[0]
        if not self._numpy.isfinite(output).all():  # JSON has no infinity
            raise Refusal(400, NOT_FINITE)
        return output

    def _answer(
        self, request: Request, content_type: str, body: bytes, feeds: dict[str, Array], output: Array
    ) -> Response:
        response: Response
        if NPY in request.headers.get("accept", ""):
            if self._brief:
                raise Refusal(406, brief.NO_ARRAY)
            array, name = io.BytesIO(), new_id()
            self._numpy.save(array, output)
            headers = {"model-version": self.info.version, PREDICTION_ID: name}
            response = Response(array.getvalue(), headers=headers, media_type=NPY)
        else:
            answer = self._predictions(output)
            response, name = predictions_response(brief.answer(answer) if self._brief else answer), answer["id"]
        told = b"" if self._brief else bytes(response.body)  # the log keeps whole answers
        self._observe(request, Answered(time.time(), name, content_type, body, feeds, output, told))
        return response

    def _predictions(self, output: Array) -> dict[str, Any]:
        predictions = self._target.answers(output, self._description)
        return {"id": new_id(), "model_version": self.info.version, "predictions": predictions}

    def _observe(self, request: Request, answered: Answered) -> None:
        setattr(request.state, ANSWERS, answered.rows)
        for label, count in self._target.counts(answered.output, self._description).items():
            counter(PREDICTIONS, self.info.version, label).inc(count)
        if self._feedback:
            self._feedback.append(answered)
        self._observer.append(answered)
