"""The service's own metrics at /metrics, beside BentoML's; the only place that knows their names.

`prometheus_client` must be imported in a worker, which knows the folder of the counters of all workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

# Upper bounds of the latency histogram, in seconds. BentoML's first one is 5 ms, within which a small model answers
# nearly all requests.
BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0]
VERSION = "model_version"  # a label of every metric here
CLIENTS = "service_client_requests_total"
REFUSED = "service_refused_total"
PREDICTIONS = "model_predictions_total"
INFO = "model_info"
ROWS = "model_rows_total"
REFERENCE_ROWS = "model_reference_rows"
RIGHT_ROWS = "model_reference_right_rows"
FEEDBACK = "model_feedback_total"
LOG_ROWS = "model_log_rows_total"
LOG_DROPPED = "model_log_dropped_total"
LOG_BYTES = "model_log_bytes_total"
CERTIFICATE_DAYS = "service_certificate_days"
BIN = ["kind", "column", "bin"]
# Metric -> its help, and its labels beside the model's version.
COUNTERS: dict[str, tuple[str, list[str]]] = {
    REFUSED: (
        "Requests refused: without a route (path), too many waiting (busy), bodies too large together (bytes), a body "
        "too late (slow), a client gone before its body was complete (gone), no key (key), not allowed (role), "
        "too often (rate), too many answers in a day (answers)",
        ["reason"],
    ),
    CLIENTS: ("Requests with a key, by the name of the client", ["client"]),
    PREDICTIONS: ("Predictions, by class if there are classes", ["label"]),
    ROWS: ("Rows of production, a sample if there are many: in which bin of the reference they are", BIN),
    FEEDBACK: ("Labels of answers: right, wrong, unmatched, or repeated", ["outcome"]),
    LOG_ROWS: ("Rows kept", []),
    LOG_DROPPED: ("Rows that were to be kept, but are not", ["reason"]),
    LOG_BYTES: ("Bytes of the files of rows kept", []),
}
GAUGES: dict[str, tuple[str, list[str]]] = {
    INFO: ("The served model: where it comes from", ["git_commit", "training_key", "mlflow_run"]),
    REFERENCE_ROWS: ("Rows of the training or test split in each bin", BIN),
    CERTIFICATE_DAYS: ("Days until the certificate of the service expires", []),
    RIGHT_ROWS: ("Right answers among the test rows in each bin of confidence", ["bin"]),
}


@cache
def _counter(name: str) -> Counter:
    from prometheus_client import Counter

    text, labels = COUNTERS[name]
    return Counter(name, text, [*labels, VERSION])


@cache
def counter(name: str, version: str, *values: str) -> Counter:
    """A counter.

    Args:
        name: Name of the metric, a key of COUNTERS.
        version: The model's version.
        *values: Values of the other labels.
    """
    return _counter(name).labels(*values, version)


def family(name: str, version: str, samples: Sequence[tuple[Sequence[str], float]]) -> str:
    """Lines of /metrics for a metric.

    Values in files of prometheus_client, which it needs for several workers, would be parsed again for each scrape.

    Args:
        name: Name of the metric, a key of COUNTERS or GAUGES.
        version: The model's version.
        samples: Values of the other labels, and the value.
    """
    from prometheus_client import generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if name in COUNTERS else GaugeMetricFamily
    text, labels = (COUNTERS | GAUGES)[name]
    collected = kind(name, text, labels=[*labels, VERSION])
    for others, value in samples:
        collected.add_metric([*others, version], value)
    registry = SimpleNamespace(collect=lambda: [collected])  # all that is asked of it
    return generate_latest(registry).decode()


def refused(reason: str, version: str) -> Counter:
    """The counter of requests that were refused for a reason, one of those in the metric's help.

    BentoML sees none of them.

    Args:
        reason: The reason.
        version: The model's version.
    """
    return counter(REFUSED, version, reason)
