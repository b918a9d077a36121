"""Rows in the log: the bytes of a JSON request, or the model's columns without private ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from my_experiment.harness import inputs
from my_experiment.harness.capture.answered import Answered, new_id
from my_experiment.harness.capture.contracts import Privacy
from my_experiment.harness.capture.lines import Lines
from my_experiment.harness.capture.log import Log
from my_experiment.harness.capture.segments import Counts
from my_experiment.harness.capture.settings import Settings

NAMES = {"age": "number", "town": "category", "since": "date"}
DESCRIPTION: dict[str, Any] = {
    "input": "tables",
    "target": "classification",
    "sha256": "0123456789abcdef",
    "classes": ["no", "yes"],
    "columns": [{"name": name, "type": type} for name, type in NAMES.items()],
    "notation": {"nulls": ["NA"]},
}
ROWS = [
    {"age": 36.0, "town": "Ulm", "since": "2026-01-31T12:30:00"},
    {"age": None, "town": None, "since": None},
    {"age": 0.1, "town": "Bad\nEms", "since": "1999-12-31"},
]


def answered(content_type: str, body: bytes, answer: bytes = b"") -> Answered:
    decoder = inputs.decoder(DESCRIPTION)
    if content_type == "application/json":
        model = decoder.request_model(DESCRIPTION, 256)
        parsed: Any = model.model_validate_json(body)
        feeds = decoder.from_json(parsed.instances, DESCRIPTION)
    else:
        feeds = decoder.from_file(body, DESCRIPTION)
    output = np.tile(np.array([[0.25, 0.75]], np.float32), (len(feeds["age"]), 1))
    return Answered(1796000000.1234, new_id(), content_type, body, feeds, output, answer)


def csv(rows: int = 1) -> bytes:
    lines = ["name;age;town;since", *["Ada;36;Ulm;2026-01-31T12:30:00"] * rows]
    return "\n".join(lines).encode()


def test_the_bytes_of_request_and_answer_are_used_again() -> None:
    body = json.dumps({"instances": ROWS}, indent=1).encode()
    item = answered("application/json", body, b'{"id":"x","predictions":[]}')
    line, rows = Lines(DESCRIPTION, Privacy()).line(item)
    assert rows == 3 and line.count(b"\n") == 1 and line.endswith(b"\n")
    assert line.startswith(b'{"time":1796000000.123,"id":"%s","request":{  "instances":' % item.id.encode())
    assert json.loads(line)["request"] == {"instances": ROWS}
    assert json.loads(line)["answer"] == {"id": "x", "predictions": []}


def test_private_columns_are_dropped_or_hashed() -> None:
    item = answered("application/json", json.dumps({"instances": ROWS}).encode(), b"{}")
    line, _ = Lines(DESCRIPTION, Privacy({"age": "drop", "town": "hash"}, b"k" * 32)).line(item)
    kept = json.loads(line)["request"]["instances"]
    assert [row["since"] for row in kept] == ["2026-01-31T12:30:00", None, "1999-12-31"]
    assert all("age" not in row for row in kept)
    assert kept[1]["town"] is None and kept[0]["town"] == Privacy({}, b"k" * 32).hash("Ulm")
    assert b"Ulm" not in line and b"36" not in line.partition(b'"request"')[2]


def test_of_a_file_the_columns_of_the_model_and_the_first_rows_are_kept() -> None:
    line, rows = Lines(DESCRIPTION, Privacy()).line(answered("multipart/form-data", csv(300), b"{}"))
    content = json.loads(line)
    assert rows == 256 and content["request"]["instances"] == ROWS[:1] * 256
    assert b"Ada" not in line
    assert len(content["answer"]["predictions"]) == 256
    prediction = {"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}}
    assert content["answer"]["predictions"][0] == prediction
    assert content["answer"]["model_version"] == "0123456789ab"


def test_an_array_as_answer_is_written_as_json() -> None:
    item = answered("application/json", json.dumps({"instances": ROWS[:1]}).encode(), b"\x93NUMPY\x01")
    content = json.loads(Lines(DESCRIPTION, Privacy()).line(item)[0])
    assert content["answer"]["predictions"][0]["label"] == "yes"


def test_the_log_counts_what_it_cannot_keep(tmp_path: Path) -> None:
    counted: list[Any] = []
    counts = Counts(
        lambda rows: counted.append(rows), lambda size: None, lambda reason, rows: counted.append((reason, rows))
    )
    log = Log(Settings(tmp_path), DESCRIPTION, counts)
    body = json.dumps({"instances": ROWS}).encode()
    log.take([answered("application/json", body, b"{}")], dropped=7)
    log.take([answered("application/json", body + b" " * 2**24, b"{}")], 0)
    log.close()
    assert counted == [("queue", 7), ("size", 3), 3]


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_feedback_is_kept_with_its_request(tmp_path: Path, fraction: float) -> None:
    import gzip

    from my_experiment.harness.capture.contracts import Feedback

    log = Log(Settings(tmp_path, fraction), DESCRIPTION, Counts(lambda _: 0, lambda _: 0, lambda *_: 0))
    body = json.dumps({"instances": ROWS[:1]}).encode()
    items = [answered("application/json", body, b"{}") for _ in range(100)]
    log.take(items, 0)
    for item in items:
        log.take_feedback(item.time, "", [Feedback(item.id, 0, "yes")])
    log.close()
    lines = [
        json.loads(line) for file in tmp_path.rglob("*.gz") for line in gzip.decompress(file.read_bytes()).splitlines()
    ]
    asked = {line["id"] for line in lines if "request" in line}
    assert asked == {line["feedback"][0]["id"] for line in lines if "feedback" in line}
    assert abs(len(asked) - 100 * fraction) < 20
