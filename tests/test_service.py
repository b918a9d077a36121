"""The service of a reproduced project, asked over HTTP: real server, real Bento, real bad requests."""

import asyncio
import collections
import contextlib
import gzip
import io
import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml
from certificates import authority
from clusters import wait_until
from conftest import VENV, BakedProject, Copy, edit, free_port, packed_files, said
from PIL import Image
from processes import kill, running

pytestmark = [pytest.mark.pipeline, pytest.mark.service]

START_LIMIT = 90.0
KERAS = """
import sys
from pathlib import Path
import numpy as np
from {package}.harness.training.restore import load_keras
images = np.load("data/prepared/test/images.npy").astype("float32")
np.save(sys.argv[1], load_keras(Path("models")).predict(images, verbose=0))
"""
IMPORTED = """
import sys
from {package}.service import Service
Service()  # loads the model, as a worker does
unwanted = ("tensorflow", "keras", "mlflow", "dvc", "hydra", "sklearn", "matplotlib", "pandas")
print(*(name for name in unwanted if name in sys.modules))
"""
# A consumer that writes down the ids of what it takes, in a service that hands nothing on before it ends.
OBSERVED = """
import sys, threading, time
class Consumer:
    def wants(self, answered):
        return True
    def take(self, batch, dropped):
        open({file!r}, "a").writelines(answered.id + chr(10) for answered in batch)
    def close(self):
        open({file!r}, "a").write("closed")
def patch():
    while not hasattr(module := sys.modules.get("{package}.harness.serving.observer"), "Observer"):
        time.sleep(0.001)
    start = module.Observer.__init__
    module.PERIOD = 60
    module.Observer.__init__ = lambda self, consumers: start(self, [Consumer()])
threading.Thread(target=patch, daemon=True).start()
"""
BLANK = [[[0.0]] * 8] * 8
JSON = {"content-type": "application/json"}
NPY = {"content-type": "application/x-npy"}
MIB = 2**20


def environment(home: Path) -> dict[str, str]:
    """The environment of a server: its own BentoML store, and no report to BentoML."""
    return {
        **os.environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": "src",
        "BENTOML_HOME": str(home),
        "BENTOML_DO_NOT_TRACK": "true",
    }


@contextlib.contextmanager
def serving(
    folder: Path,
    home: Path,
    *command: str,
    env: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
    verify: ssl.SSLContext | None = None,
    end: signal.Signals = signal.SIGINT,
    port: int = 0,
) -> Iterator[httpx.Client]:
    """Runs a server until the block ends, on a free port unless one is given; gives a client once /readyz says so."""
    port = port or free_port()
    home.mkdir(parents=True, exist_ok=True)
    log = home / "serve.log"
    words = [str(VENV / "bin" / command[0]), *command[1:], "--host", host, "--port", str(port)]
    environ = {**environment(home), **(env or {})}
    with (
        log.open("wb") as output,
        running(*words, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        base = f"{'https' if verify else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        with httpx.Client(base_url=base, timeout=30, verify=verify or True) as client:
            deadline = time.monotonic() + START_LIMIT
            while not ready(client):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{' '.join(command)} did not get ready:\n{log.read_text()}")
                time.sleep(0.05)
            yield client
        kill(process, end)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def package(reproduced_project: BakedProject) -> str:
    (source,) = (folder for folder in (reproduced_project.path / "src").iterdir() if folder.is_dir())
    return source.name


@pytest.fixture(scope="module")
def client(reproduced_project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    home = tmp_path_factory.mktemp("serve")
    with serving(reproduced_project.path, home, "bentoml", "serve", ".") as client:
        yield client


@pytest.fixture(scope="module")
def images(reproduced_project: BakedProject) -> np.ndarray:
    return np.asarray(np.load(reproduced_project.path / "data/prepared/test/images.npy"))


@pytest.fixture(scope="module")
def expected(reproduced_project: BakedProject, package: str, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What Keras predicts for the test images, from the canonical weights."""
    file = tmp_path_factory.mktemp("keras") / "expected.npy"
    code = KERAS.format(package=package)
    reproduced_project.run("python", "-c", code, str(file), env={"PYTHONPATH": "src"})
    return np.asarray(np.load(file))


@pytest.fixture(scope="module")
def bento(
    reproduced_project: BakedProject,
    copy: Callable[[BakedProject], BakedProject],
    package: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The Bento of a project that is gone afterwards, moved to where BentoML did not put it."""
    project = copy(reproduced_project)
    home, elsewhere = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("elsewhere")
    env = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": "src"}
    built = project.run("bentoml", "build", env=env)
    assert "warning" not in (built.stdout + built.stderr).lower()
    (found,) = (folder.parent for folder in (home / "bentos" / package).glob("*/bento.yaml"))
    shutil.move(found, elsewhere / "bento")
    shutil.rmtree(home)
    shutil.rmtree(project.path)
    return elsewhere / "bento"


def probabilities(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([list(each["probabilities"].values()) for each in answer.json()["predictions"]])


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_answers_equal_keras(client: httpx.Client, images: np.ndarray, expected: np.ndarray) -> None:
    batches = [images[start : start + 200].tolist() for start in range(0, len(images), 200)]
    answers = [client.post("/predict", json={"instances": batch}) for batch in batches]
    got = np.concatenate([probabilities(answer) for answer in answers])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_answer_holds_label_probabilities_and_version(
    client: httpx.Client, images: np.ndarray, reproduced_project: BakedProject
) -> None:
    model = json.loads(reproduced_project.read("models/model.json"))
    answer = client.post("/predict", json={"instances": images[:3].tolist()}).json()
    assert set(answer) == {"id", "model_version", "predictions"}
    assert answer["model_version"] == model["sha256"][:12]
    for prediction in answer["predictions"]:
        assert list(prediction["probabilities"]) == model["classes"]
        assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert prediction["label"] == max(prediction["probabilities"], key=prediction["probabilities"].get)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_binary_array_is_answered_like_json(
    client: httpx.Client, images: np.ndarray, expected: np.ndarray, dtype: type
) -> None:
    body = npy(images[:256].astype(dtype))
    answer = client.post("/predict", content=body, headers={**NPY, "accept": "application/x-npy"})
    assert answer.headers["content-type"] == "application/x-npy"
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), expected[:256], rtol=0, atol=1e-5)
    as_json = client.post("/predict", content=body, headers=NPY)
    assert as_json.json()["model_version"] == answer.headers["model-version"]
    assert answer.headers["prediction-id"] < as_json.json()["id"] and "prediction-id" not in as_json.headers
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.content)), probabilities(as_json).astype(np.float32))


def test_image_file_is_answered_like_its_array(client: httpx.Client, images: np.ndarray) -> None:
    for image in images[:5]:
        uploaded = client.post("/predict_file", files={"file": ("digit.png", png(image[..., 0]))})
        sent = client.post("/predict", json={"instances": [image.tolist()]})
        assert said(uploaded) == said(sent)


def test_large_colour_photo_is_resized(client: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480), (200, 30, 90)).save(file, "JPEG")
    assert probabilities(client.post("/predict_file", files={"file": file.getvalue()})).shape == (1, 10)


def bomb() -> bytes:
    """A PNG of a few bytes whose header promises 2.5 thousand million pixels."""
    good = png(np.zeros((8, 8), np.uint8))
    header = b"IHDR" + struct.pack(">II", 50_000, 50_000) + good[24:29]
    return good[:12] + header + struct.pack(">I", zlib.crc32(header)) + good[33:]


ARRAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "empty batch": (400, {"json": {"instances": []}}),
    "no instances": (400, {"json": {}}),
    "another field": (400, {"json": {"instances": [BLANK], "more": 1}}),
    "null": (400, {"json": {"instances": None}}),
    "not an object": (400, {"json": [BLANK]}),
    "not an image": (400, {"json": {"instances": [0]}}),
    "text": (400, {"json": {"instances": [[[["1"]] * 8] * 8]}}),
    "true": (400, {"json": {"instances": [[[[True]] * 8] * 8]}}),
    "too few columns": (400, {"json": {"instances": [[[[0.0]] * 7] * 8]}}),
    "ragged": (400, {"json": {"instances": [[*BLANK[:7], [[0.0]]]]}}),
    "three channels": (400, {"json": {"instances": [[[[0.0] * 3] * 8] * 8]}}),
    "above 255": (400, {"json": {"instances": [[[[256]] * 8] * 8]}}),
    "below 0": (400, {"json": {"instances": [[[[-1]] * 8] * 8]}}),
    "NaN": (400, {"content": json.dumps({"instances": [[[[float("nan")]] * 8] * 8]}), "headers": JSON}),
    "infinity": (400, {"content": json.dumps({"instances": [[[[float("inf")]] * 8] * 8]}), "headers": JSON}),
    "huge number": (400, {"content": b'{"instances": [[[[1e999]]]]}', "headers": JSON}),
    "too large a batch": (400, {"json": {"instances": [BLANK] * 257}}),
    "malformed": (400, {"content": b'{"instances": [', "headers": JSON}),
    "empty": (400, {"content": b"", "headers": JSON}),
    "not UTF-8": (400, {"content": b'{"instances": "\xff"}', "headers": JSON}),
    "deeply nested": (413, {"content": b'{"instances": ' + b"[" * 100_000, "headers": JSON}),
    "no array": (400, {"content": b"\x93NUMPY", "headers": NPY}),
    "a pickle": (400, {"content": npy(np.array([None])), "headers": NPY}),
    "too many arrays": (400, {"content": npy(np.zeros((257, 8, 8, 1), np.uint8)), "headers": NPY}),
    "UTF-16": (415, {"content": json.dumps({"instances": [BLANK]}).encode("utf-16"), "headers": JSON}),
    "another charset": (415, {"content": b"{}", "headers": {"content-type": "application/json; charset=utf-16"}}),
    "another encoding": (415, {"content": b"{}", "headers": {**JSON, "content-encoding": "br"}}),
    "not gzip": (400, {"content": b"{}", "headers": {**JSON, "content-encoding": "gzip"}}),
    "a bomb": (413, {"content": gzip.compress(bytes(33 * 2**20)), "headers": {**JSON, "content-encoding": "gzip"}}),
    "no content type": (415, {"content": b"{}"}),
    "wrong content type": (415, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
    "too large a body": (413, {"content": b" " * (33 * 2**20), "headers": JSON}),
}
FORM = {"content-type": "multipart/form-data; boundary=x"}
UNFINISHED = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
FILES: dict[str, tuple[int, dict[str, Any]]] = {
    "not an image": (400, {"files": {"file": b"hello"}}),
    "empty file": (400, {"files": {"file": b""}}),
    "truncated": (400, {"files": {"file": png(np.zeros((99, 99), np.uint8))[:-40]}}),
    "TIFF": (400, {"files": {"file": b"II*\0" + bytes(50)}}),
    "too many pixels": (400, {"files": {"file": bomb()}}),
    "another field": (400, {"files": {"image": png(np.zeros((8, 8), np.uint8))}}),
    "two files": (400, {"files": [("file", b"1"), ("file", b"2")]}),
    "an address": (415, {"json": {"file": "http://127.0.0.1:9/"}}),
    "no boundary": (400, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
    "no form": (400, {"content": b"garbage", "headers": FORM}),
    "unfinished form": (400, {"content": UNFINISHED, "headers": FORM}),
    "empty form": (400, {"content": b"", "headers": FORM}),
    "wrong content type": (415, {"content": b"x", "headers": {"content-type": "image/png"}}),
}
BAD = [("/predict", *case) for case in ARRAYS.items()] + [("/predict_file", *case) for case in FILES.items()]


@pytest.mark.parametrize(("path", "name", "case"), BAD, ids=[f"{path[1:]}: {name}" for path, name, _ in BAD])
def test_bad_request_is_told_why(client: httpx.Client, path: str, name: str, case: tuple[int, dict[str, Any]]) -> None:
    status, request = case
    answer = client.post(path, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    message = answer.json()["error"]
    assert 10 < len(message) < 300
    assert "\n" not in message


def raw(port: int, *requests: bytes) -> bytes:
    """All answers to requests, each on a connection of its own, which no client has corrected."""
    found = b""
    for request in requests:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(request + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
            while part := connection.recv(MIB):
                found += part
    return found


def test_nothing_is_read_from_elsewhere(client: httpx.Client) -> None:
    """Addresses, paths and entities in place of pictures; paths that lead out of a folder; lines in a header."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        svg = (
            f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{address}">]><svg><image href="{address}"/>&b;</svg>'
        )
        for text in (address, "file:///etc/passwd", "/etc/passwd", "models/model.json", svg):
            for body in ({"instances": [text]}, {"instances": text}, {"instances": [{"url": text}]}, {"file": text}):
                for path in ("/predict", "/predict_file"):
                    assert client.post(path, json=body).status_code in (400, 413, 415)
            for form in (
                {"files": {"file": ("a.png", text)}},
                {"data": {"file": text}},
                {"files": {"file": (text, b"")}},
            ):
                assert client.post("/predict_file", **form).status_code in (400, 415)
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected
            elsewhere.accept()
    port = client.base_url.port
    assert port is not None
    up = [b"/../" * 6, b"/..%2f" * 6, b"/%2e%2e/" * 6, b"/..%5c" * 6, b"/....//" * 6, b"//", b"/%00/", b"/..%c0%af" * 6]
    paths = [b"/ui", b"/static_content", b""]
    files = [b"etc/passwd", b"models/model.json", b"src/../models/model.json"]
    told = raw(port, *(b"GET %s%s%s HTTP/1.1" % each for each in itertools.product(paths, up, files)))
    assert (
        told.count(b"HTTP/1.1 404") + told.count(b"HTTP/1.1 400") == 72
        and b"root:" not in told
        and b"sha256" not in told
    )
    lines = [
        b"%0d%0aX-Planted: 1",
        b"%0aX-Planted:%201",
        b"%E5%98%8AX-Planted:%201",
        b"\rX-Planted: 1",
        b"\x00X-Planted: 1",
    ]
    told = raw(port, *(b"GET %s%s/ HTTP/1.1" % each for each in itertools.product((b"/predict", b"/ui", b"/"), lines)))
    told += raw(port, *(b"GET /%s/ HTTP/1.1\r\nAccept: a%s" % (b"livez", line) for line in lines))
    assert not re.search(rb"^x-planted", told, re.MULTILINE | re.IGNORECASE) and b"HTTP/1.1 5" not in told


def test_schemathesis_finds_nothing(client: httpx.Client, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(client.get("/docs.json").text)
    done = subprocess.run(
        [
            VENV / "bin" / "schemathesis",
            *("run", document, "--url", str(client.base_url), "--max-examples", "25", "--seed", "1"),
            # No schema can say which bytes are an image: random ones are rightly refused.
            *("--exclude-checks", "positive_data_acceptance"),
        ],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_schemathesis_finds_nothing_with_a_key(table_project: BakedProject, tmp_path: Path) -> None:
    """All endpoints of a table's service that is switched on as far as it goes."""
    keys = {"SERVICE_KEYS": str(tmp_path / "keys.yaml")}
    roles = [word for role in ("predict", "explain", "feedback", "metrics") for word in ("--role", role)]
    command = ("python", "-m", "my_experiment")
    made = table_project.run(*command, "keys", "new", "tester", *roles, env={"PYTHONPATH": "src", **keys})
    header = {"Authorization": f"Bearer {made.stdout.strip()}"}
    (key,) = (f"{name}: {value}" for name, value in header.items())
    env = {**keys, "SERVICE_EXPLAIN": "on", "SERVICE_FEEDBACK": "on", "SERVICE_AUDIT": str(tmp_path)}
    with serving(table_project.path, tmp_path / "home", *command, "serve", env=env) as client:
        assert client.get("/docs.json").status_code == 401
        document = tmp_path / "openapi.json"
        document.write_text(client.get("/docs.json", headers=header).text)
        paths = json.loads(document.read_text())["paths"]
        assert [path for path in paths if paths[path].get("get", {}).get("security") == []] == [
            "/healthz",
            "/livez",
            "/readyz",
        ]
        done = subprocess.run(
            [
                VENV / "bin" / "schemathesis",
                *(
                    "run",
                    document,
                    "--url",
                    str(client.base_url),
                    "--header",
                    key,
                    "--max-examples",
                    "10",
                    "--seed",
                    "1",
                ),
                # No schema can say which bytes are a table.
                *("--exclude-checks", "positive_data_acceptance"),
            ],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stdout[-6000:]
        counted = client.get("/metrics", headers=header).text
    assert "Traceback" not in (tmp_path / "home/serve.log").read_text()
    labels = r'endpoint="/(\w+)",http_response_code="(\d+)"'
    answers = re.findall(rf"^bentoml_service_request_total\{{{labels}.* ([\d.]+)$", counted, re.MULTILINE)
    given = {(path, status) for path, status, count in answers if float(count)}
    assert given >= {("predict", "200"), ("explain", "200"), ("feedback", "200")}
    assert not {status for _, status in given if status.startswith("5")}


def test_an_encoded_request_is_answered_as_a_plain_one(client: httpx.Client, images: np.ndarray) -> None:
    body = json.dumps({"instances": images[:2].tolist()}).encode()
    plain = client.post("/predict", content=body, headers=JSON)
    assert plain.status_code == 200
    for name, encode in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        encoded = client.post("/predict", content=encode(body), headers={**JSON, "content-encoding": name})
        assert said(encoded) == said(plain)
    form = httpx.Request("POST", "http://x/", files={"file": png(images[0, ..., 0])})
    headers = {"content-type": form.headers["content-type"], "content-encoding": "gzip"}
    uploaded = client.post("/predict_file", content=gzip.compress(form.read()), headers=headers)
    assert uploaded.json()["predictions"] == plain.json()["predictions"][:1]
    marked = client.post("/predict", content=b"\xef\xbb\xbf" + body, headers=JSON)
    assert said(marked) == said(plain)


def counted(client: httpx.Client, metric: str, labels: str = "") -> float:
    """The sum of a metric's series with a label."""
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(metric + "{") and labels in line)


def test_health_and_metrics(client: httpx.Client, reproduced_project: BakedProject) -> None:
    assert client.get("/livez").status_code == 200
    client.post("/predict", json={"instances": [BLANK]})
    assert counted(client, "bentoml_service_request_total", 'endpoint="/predict",http_response_code="200"') >= 1
    assert 'request_duration_seconds_bucket{endpoint="/predict",http_response_code="200",le="0.0005"' in (
        client.get("/metrics").text
    )
    version = json.loads(reproduced_project.read("models/model.json"))["sha256"][:12]
    for metric in ("model_predictions_total", "service_refused_total"):
        assert re.search(rf'^{metric}{{.*model_version="{version}".*}} \d', client.get("/metrics").text, re.M)


def test_rows_are_counted_in_the_bins_of_the_reference(client: httpx.Client, images: np.ndarray) -> None:
    version = json.loads(client.get("/docs.json").content)["info"]["version"]
    dark, light = (
        f'bin="{name}",column="brightness",kind="input",model_version="{version}"'
        for name in ("00 below 58.6", "11 above 127")
    )
    rows = (images[:40] * 0.01).tolist()

    def ask(rows: list[Any], last: float) -> float:
        """Asks, then once more about a picture of this brightness; once it is counted, all before it are."""
        before = counted(client, "model_rows_total", light)
        for instances in (rows, [[[[last]] * 8] * 8]):
            assert not instances or client.post("/predict", json={"instances": instances}).status_code == 200
        wait_until(lambda: counted(client, "model_rows_total", light) > before, "the light picture is counted")
        return counted(client, "model_rows_total", dark)

    before = ask([], 201)
    assert ask(rows, 202) == before + 16  # of a request
    assert ask(rows, 203) == before + 16  # the same again are not
    reference, right = (counted(client, f"model_reference_{name}rows", 'bin="') for name in ("", "right_"))
    assert reference > 1257 and 0.9 * len(images) < right <= len(images)
    assert counted(client, "model_info", f'model_version="{version}"') == 1


@pytest.mark.parametrize("one_process", [False, True])
def test_the_last_answers_are_observed_after_sigterm(
    reproduced_project: BakedProject, package: str, tmp_path: Path, one_process: bool
) -> None:
    (tmp_path / "sitecustomize.py").write_text(OBSERVED.format(package=package, file=str(tmp_path / "taken")))
    command = ["python", "-m", package, "serve"] if one_process else ["bentoml", "serve", "."]
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path), "src"])}
    with serving(reproduced_project.path, tmp_path / "home", *command, env=env, end=signal.SIGTERM) as client:
        name = client.post("/predict", json={"instances": [BLANK]}).json()["id"]
    assert (tmp_path / "taken").read_text().split() == [name, "closed"]


def test_workers_share_the_connections_of_a_proxy(
    reproduced_project: BakedProject, package: str, tmp_path: Path
) -> None:
    config = tmp_path / "workers.yaml"
    config.write_text(f"services: {{{package}: {{workers: 2}}}}\n")
    command, env = ("bentoml", "serve", "."), {"BENTOML_CONFIG": str(config)}
    with (
        serving(reproduced_project.path, tmp_path / "home", *command, env=env) as client,
        contextlib.ExitStack() as kept,
    ):
        port = client.base_url.port
        assert port

        def held() -> list[int]:
            """Connections of each worker."""
            every = psutil.net_connections("tcp4")
            return [
                *collections.Counter(
                    each.pid for each in every if each.laddr[1] == port and each.status == "ESTABLISHED"
                ).values()
            ]

        log = tmp_path / "home" / "serve.log"
        wait_until(lambda: log.read_text().count(" initialized") == 2, "both workers are ready")
        for _ in range(24):  # at once, as a proxy does that starts
            kept.enter_context(socket.create_connection(("127.0.0.1", port)))
        wait_until(lambda: sum(held()) >= 24, "all connections are accepted")
        assert len(held()) == 2 and min(held()) >= 6


def test_unknown_paths_leave_metrics_and_memory_as_they_are(one_process: httpx.Client) -> None:
    methods, server = ("GET", "POST", "HEAD"), process_of(one_process)
    one_process.request("POST", "/livez")

    def ask(count: int) -> tuple[float, int, int]:
        for number in range(count):
            path = ("/{}", "/static_content/{}", "/ui/{}", "/predict/{}")[number % 4].format(number)
            assert one_process.request(methods[number % 3], path).status_code == 404
        refused = counted(one_process, "service_refused_total", 'reason="path"')
        return refused, len(one_process.get("/metrics").content), server.memory_info().rss

    refused, size, memory = ask(200)
    assert one_process.request("POST", "/livez").status_code == 405
    now = ask(5000)
    assert now[0] == refused + 5000
    assert abs(now[1] - size) < 1000 and now[2] - memory < 5 * MIB


def test_imports_nothing_of_training(reproduced_project: BakedProject, package: str) -> None:
    code = IMPORTED.format(package=package)
    assert reproduced_project.run("python", "-c", code, env={"PYTHONPATH": "src"}).stdout.split() == []


@pytest.mark.parametrize("command", [["serve", ".", "--host", "127.0.0.1", "--port", "1"], ["build"]])
def test_missing_model_is_one_line(default_project: BakedProject, tmp_path: Path, command: list[str]) -> None:
    env = {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "true", "PYTHONPATH": "src"}
    done = default_project.run("bentoml", *command, check=False, env=env)
    assert done.returncode != 0
    assert "run `dvc repro` or `dvc pull`" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_bento_is_labelled(bento: Path, reproduced_project: BakedProject) -> None:
    labels = yaml.safe_load((bento / "bento.yaml").read_text())["labels"]
    assert labels["git_commit"] == reproduced_project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert {"dvc_lock", "mlflow_run", "test_accuracy"} <= set(labels)
    assert float(labels["test_accuracy"]) > 0.9


def test_bento_holds_only_what_it_needs(bento: Path, reproduced_project: BakedProject) -> None:
    source = bento / "src"
    packed = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert packed == packed_files(reproduced_project)
    assert "--hash=sha256:" in (bento / "env/python/requirements.txt").read_text()


@pytest.mark.parametrize("one_process", [False, True])
def test_bento_serves_without_the_project(
    bento: Path, package: str, images: np.ndarray, expected: np.ndarray, tmp_path: Path, one_process: bool
) -> None:
    folder = bento / "src" if one_process else tmp_path
    command = ["python", "-m", package, "serve"] if one_process else ["bentoml", "serve", str(bento)]
    recorded = yaml.safe_load((bento / "bento.yaml").read_text())["labels"]["model_sha256"]
    release = {"SERVICE_RELEASE": "0123456789ab", "SERVICE_MODEL_SHA256": recorded}
    with serving(folder, tmp_path / "home", *command, env=release) as client:
        assert client.get("/readyz").headers["x-release"] == "0123456789ab"
        answer = client.post("/predict", json={"instances": images[:50].tolist()})
        np.testing.assert_allclose(probabilities(answer), expected[:50], rtol=0, atol=1e-5)
        assert client.get("/docs.json").status_code == 200
        assert client.get("/ui/page.js").headers["x-content-type-options"] == "nosniff"
        assert len(client.get("/ui/description.json").json()["examples"]) == 6
        assert f'service_version="{yaml.safe_load((bento / "bento.yaml").read_text())["version"]}"' in (
            client.get("/metrics").text
        )


def test_a_model_without_its_golden_answer_is_never_ready(bento: Path, package: str, tmp_path: Path) -> None:
    source = shutil.copytree(bento / "src", tmp_path / "bento" / "src")
    shutil.copy(bento / "bento.yaml", source.parent)
    content = json.loads((source / "models/reference.json").read_text())
    content["golden"][0] += 3e-5  # as by an ONNX Runtime that computes otherwise
    (source / "models/reference.json").write_text(json.dumps(content))
    command = [str(VENV / "bin/python"), "-m", package, "serve", "--port", "0"]
    done = subprocess.run(command, cwd=source, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*model\.onnx does not give its golden answer here \(.*\).*\n", done.stderr), (
        done.stderr
    )


@pytest.fixture(scope="module")
def one_process(reproduced_project: BakedProject, package: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("one-process")
    with serving(reproduced_project.path, home, "python", "-m", package, "serve") as client:
        yield client


@pytest.mark.parametrize("command", ["python -m {package} serve", "bentoml serve . --ssl-cert-reqs 2"])
def test_mutual_tls_over_ipv6(reproduced_project: BakedProject, package: str, tmp_path: Path, command: str) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    ours = authority(tmp_path, "ours")
    (certificate, key), client_files = ours.issue("server"), ours.issue("client")
    files = {"--ssl-certfile": certificate, "--ssl-keyfile": key, "--ssl-ca-certs": ours.file}
    words = [*command.format(package=package).split(), *(str(word) for option in files.items() for word in option)]
    stranger, known = (ssl.create_default_context(cafile=ours.file) for _ in range(2))
    known.load_cert_chain(*client_files)
    with serving(reproduced_project.path, tmp_path / "home", *words, host="::1", verify=known) as client:
        answer = client.post("/predict", json={"instances": [BLANK]})
        assert answer.status_code == 200
        for url, verify in ((client.base_url, stranger), (client.base_url.copy_with(scheme="http"), known)):
            with pytest.raises(httpx.TransportError):
                httpx.get(url.join("/readyz"), verify=verify)
    assert "Traceback" not in (tmp_path / "home/serve.log").read_text()


async def flood(port: int, clients: int, answers: int) -> collections.Counter[int]:
    """Has clients ask, each again as soon as it is answered or refused, until enough are answered; counts statuses."""
    body = json.dumps({"instances": [BLANK]}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    statuses: collections.Counter[int] = collections.Counter()

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while statuses[200] < answers:
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            told = await reader.readexactly(int(answer.partition(b"content-length: ")[2].split()[0]))
            status = int(answer.split()[1])
            statuses[status] += 1
            if status == 503:
                assert b"retry-after: 1" in answer and "too many" in json.loads(told)["error"]
        writer.close()

    async def check_health() -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            while statuses[200] < answers:
                assert (await client.get("/readyz")).status_code == 200

    await asyncio.gather(check_health(), *(ask() for _ in range(clients)))
    return statuses


def process_of(client: httpx.Client) -> psutil.Process:
    """The process that listens on the port of a client."""
    listening = (each for each in psutil.net_connections("tcp4") if each.status == "LISTEN")
    (pid,) = (each.pid for each in listening if each.laddr[1] == client.base_url.port)
    return psutil.Process(pid)


def test_overload_is_refused_and_the_service_goes_on(one_process: httpx.Client) -> None:
    port, server = one_process.base_url.port, process_of(one_process)
    assert port

    def counts() -> tuple[float, float]:
        """Requests that BentoML has seen, and those refused before it."""
        seen = counted(one_process, "bentoml_service_request_total", 'endpoint="/predict",')
        return seen, counted(one_process, "service_refused_total", 'reason="busy"')

    before, told = counts(), asyncio.run(flood(port, 128, 1000))
    assert told.keys() == {200}
    used = []
    for _ in range(2):  # four times as many clients as may wait
        told += (statuses := asyncio.run(flood(port, 512, 500)))
        assert statuses.keys() == {200, 503}
        used.append(server.memory_info().rss)
    assert used[1] - used[0] < 16 * MIB
    told += (statuses := asyncio.run(flood(port, 128, 500)))
    assert statuses.keys() == {200}
    # Both together are all requests, as docs/serve.md says.
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [told[200], told[503]]


def test_clients_that_send_slowly_keep_nobody_out(one_process: httpx.Client) -> None:
    """More senders than requests may wait, and as many bytes as all bodies may have."""
    address = ("127.0.0.1", one_process.base_url.port)

    def head(size: int) -> bytes:
        kind = f"Content-Type: application/json\r\nContent-Length: {size}"
        return f"POST /predict HTTP/1.1\r\nHost: x\r\n{kind}\r\n\r\n".encode()

    def answered() -> bool:
        return one_process.post("/predict", json={"instances": [BLANK]}).status_code == 200

    def send(stack: contextlib.ExitStack, data: bytes) -> socket.socket:
        sender = stack.enter_context(socket.create_connection(address, timeout=60))
        sender.sendall(data)
        return sender

    with contextlib.ExitStack() as stack:
        for _ in range(140):
            send(stack, head(1000) + b"{")
        assert answered()
    with contextlib.ExitStack() as stack:
        before = counted(one_process, "service_refused_total", 'reason="bytes"')
        for _ in range(4):  # almost whole
            send(stack, head(32 * MIB) + b" " * (32 * MIB - 1))

        def made_room() -> bool:
            assert answered()
            return counted(one_process, "service_refused_total", 'reason="bytes"') == before + 1

        wait_until(made_room, "no silent sender has made room")
        assert one_process.get("/readyz").status_code == 200


def test_a_client_that_goes_away_is_no_error_of_the_service(one_process: httpx.Client) -> None:
    failed = counted(one_process, "bentoml_service_request_total", 'http_response_code="500"')
    gone = counted(one_process, "service_refused_total", 'reason="gone"')
    with socket.create_connection(("127.0.0.1", one_process.base_url.port)) as sender:
        sender.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
    wait_until(lambda: counted(one_process, "service_refused_total", 'reason="gone"') == gone + 1, "not counted")
    assert counted(one_process, "bentoml_service_request_total", 'http_response_code="500"') == failed


def png_bomb(width: int, height: int, color: int, bits: int, channels: int) -> bytes:
    """A PNG of one color: a small file of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row, packer = bytes(1 + width * channels * bits // 8), zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(**options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", **options)
    return file.getvalue()


def attacks() -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Name, path, headers and body of requests that once stopped the service for seconds or took gigabytes."""
    unknown = b",".join(b'"a%07d":0' % number for number in range(1_000_000))
    yield "unknown keys", "/predict", JSON, b"{" + unknown + b"}"
    yield "empty lists", "/predict", JSON, b'{"x":[' + b"[]," * (8 * MIB) + b"[]]}"
    yield "bomb of JSON", "/predict", {**JSON, "content-encoding": "gzip"}, gzip.compress(b"[" * (31 * MIB), 9)
    progressive = jpeg(progressive=True)
    last = progressive.rfind(b"\xff\xda")
    scan = progressive[last:-2]
    segment = b"\xff\xe1\x00\x0aExif\0\0MM"
    for name, file in {
        "transparent pixels": png_bomb(4000, 4000, 6, 8, 4),
        "deep pixels": png_bomb(4000, 4000, 0, 16, 1),
        "too many pixels": png_bomb(10000, 10000, 6, 8, 4),
        "scans": progressive[:last] + scan * 50_000 + b"\xff\xd9",
        "segments": jpeg()[:2] + segment * 1_000_000 + jpeg()[2:],
    }.items():
        form = httpx.Request("POST", "http://x", files={"file": file})
        yield name, "/predict_file", {"content-type": form.headers["content-type"]}, form.read()


def test_no_request_stops_the_others_or_takes_much_memory(one_process: httpx.Client) -> None:
    """Each of them, while others ask; with the largest wait of the others and the growth of memory in the report."""
    server, told = process_of(one_process), []
    for name, path, headers, body in attacks():
        before, waits, memory, done = server.memory_info().rss, [0.0], [0], threading.Event()

        def watch(waits: list[float] = waits, memory: list[int] = memory, done: threading.Event = done) -> None:
            with httpx.Client(base_url=one_process.base_url, timeout=60) as client:
                while not done.is_set():
                    begin = time.monotonic()
                    assert client.get("/readyz").status_code == 200
                    waits.append(time.monotonic() - begin)
                    memory.append(server.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            answer = httpx.post(f"{one_process.base_url}{path}", headers=headers, content=body, timeout=60)
        finally:
            done.set()
            watcher.join()
        assert answer.status_code in (200, 400, 413), (name, answer.text)
        told.append((name, answer.status_code, round(max(waits), 2), (max(memory) - before) // MIB))
    # Others once waited for 4 to 30 s, and memory grew by 1 to 4 GiB; a slow machine is given time.
    assert max(seconds for _, _, seconds, _ in told) < 3, told
    assert max(grown for *_, grown in told) < 250, told


def test_an_owner_adds_an_endpoint_and_raises_a_limit(
    reproduced_project: BakedProject, copy: Copy, package: str, images: np.ndarray, tmp_path: Path
) -> None:
    project = copy(reproduced_project)
    service = f"src/{package}/service.py"
    edit(project, service, "limits = Limits()", "limits = Limits(instances=300)")
    text = project.read(service)
    for line in (
        "@bentoml.api",
        "def classes(self)",
        '"""The class names',
        'return list(self.info.model_dump()["classes"])',
    ):
        assert f"# {line}" in text or f"#     {line}" in text
    uncommented = re.sub(r"^    # (?=@bentoml|def |    )", "    ", text, flags=re.M).replace("    #\n", "\n")
    (project.path / service).write_text(uncommented)
    below = project.path / "src"  # the root is found from a folder below it
    env = {"PYTHONPATH": str(below)}
    with serving(below, tmp_path / "home", "python", "-m", package, "serve", env=env) as client:
        answer = client.post("/classes", json={})
        assert answer.json() == [str(digit) for digit in range(10)]
        assert "/classes" in client.get("/docs.json").json()["paths"]
        many = np.concatenate([images] * 2)[:300].tolist()
        assert len(client.post("/predict", json={"instances": many}).json()["predictions"]) == 300
        refused = client.post("/predict", json={"instances": [*many, many[0]]})
        assert refused.status_code == 400 and "300" in refused.json()["error"]


def test_a_worker_that_cannot_start_ends_the_service(
    reproduced_project: BakedProject, copy: Copy, package: str, tmp_path: Path
) -> None:
    project = copy(reproduced_project)
    mistake = "limits = Limits()\n\n    def __init__(self) -> None:\n        raise RuntimeError('a mistake')"
    edit(project, f"src/{package}/service.py", "limits = Limits()", mistake)
    env = {"BENTOML_HOME": str(tmp_path), "BENTOML_CONTAINERIZED": None, "PORT": str(free_port())}
    done = project.run("make", "serve", env=env, check=False)
    assert done.returncode == 2  # make's
    assert (done.stdout + done.stderr).count("Initializing service error") == 1
