"""The service's own metrics at /metrics, beside BentoML's.

`prometheus_client` must be imported in a worker, which knows the folder of the counters of all workers.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Counter

# Upper bounds of the latency histogram, in seconds. BentoML's first one is 5 ms, within which a small model answers
# nearly all requests.
BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0]


@cache
def _refused() -> Counter:
    from prometheus_client import Counter

    text = "Requests refused: without a route (path), too many waiting (busy), bodies too large together (bytes)"
    return Counter("service_refused_total", text, ["reason", "model_version"])


def refused(reason: str, version: str) -> Counter:
    """The counter of requests that were refused for a reason: `path`, `busy` or `bytes`.

    BentoML counts requests that are refused for their `bytes`, too; it does not see the others.

    Args:
        reason: The reason.
        version: The model's version.
    """
    return _refused().labels(reason, version)


@cache
def predicted() -> Counter:
    """The counter of predictions, by label and version of the model."""
    from prometheus_client import Counter

    text = "Predictions, by class if there are classes"
    return Counter("model_predictions_total", text, ["label", "model_version"])
