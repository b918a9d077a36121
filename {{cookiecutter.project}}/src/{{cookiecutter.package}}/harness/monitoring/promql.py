"""Formulas in PromQL, of the metrics that the service exports.

Replicas pool: counts are added over all targets, and reference counts, which all replicas of a version export, are
taken once. Whatever labels a scraper gives a target (`instance`, `pod`...), only `SERVICE` stay, so that a canary is
told from the stable release.
"""

from ..serving import metrics

# BentoML's metrics.
REQUESTS = "bentoml_service_request_total"
DURATION = "bentoml_service_request_duration_seconds"
IN_PROGRESS = "bentoml_service_request_in_progress"

# `namespace` is one of Kubernetes; a label that no series has changes nothing.
SERVICE = "job, namespace, release, track"
MODEL = f"{SERVICE}, model_version"
VARIABLE = f"{MODEL}, kind, column"
BIN = f"{VARIABLE}, bin"

# Fewer scrapes in a window say too little: `increase` extrapolates to its edges.
SCRAPES = 4
# The reference of a version is remembered this long after its last replica ended: a restart ends no alert.
REMEMBERED = "5m"
# Health checks, scrapes, pages and documents do not count as requests.
_TECHNICAL = "/|/(livez|readyz|healthz|metrics)|/.*[.]json|/(ui|static).*"
ASKED = f'endpoint!~"{_TECHNICAL}"'
# An explanation asks the model hundreds of times: it has no objective.
FAST = f'endpoint!~"{_TECHNICAL}|/explain"'
# Answers that do not say that the service failed, or that the request is wrong; refusals of too many requests.
GOOD = 'http_response_code!~"5.."'
ACCEPTED = 'http_response_code!~"4.."'
SHED = 'reason=~"busy|bytes"'

# Without the terms of Stirling's series that cancel in `evidence`.
_LOG_GAMMA_1 = "0.0810614668"


def answers(window: str) -> str:
    """Answers a second, by status.

    Args:
        window: A duration, such as `1h`.
    """
    return f"sum by ({SERVICE}, http_response_code) (rate({REQUESTS}{{{ASKED}}}[{window}]))"


def requests(window: str, answers: str) -> str:
    """Requests a second: BentoML does not see those that are refused because there are too many.

    Args:
        window: A duration.
        answers: Answers a second, a name.
    """
    answered = f"sum without (http_response_code) ({answers})"
    return f"{answered}\n+ ({_shed(window)} or 0 * {answered})"


def failures(answers: str, requests: str) -> str:
    """Share of the requests that failed: answered with 5xx, or refused.

    Args:
        answers: Answers a second, a name.
        requests: Requests a second, a name.
    """
    good = f"sum without (http_response_code) ({answers}{{{GOOD}}})"
    return f"1 - ({good} or 0 * {requests}) / ({requests} > 0)"


def slow(window: str, seconds: float) -> str:
    """Share of the answers that took longer.

    Args:
        window: A duration.
        seconds: An upper bound of a bucket of the latency histogram.
    """
    fast = f'sum by ({SERVICE}) (rate({DURATION}_bucket{{{FAST},le="{seconds}"}}[{window}]))'
    all_ = f"sum by ({SERVICE}) (rate({DURATION}_count{{{FAST}}}[{window}]))"
    return f"1 - {fast}\n/ ({all_} > 0)"


def refused(window: str, requests: str) -> str:
    """Share of the requests that were refused because there were too many, or their bodies were too large together.

    Args:
        window: A duration.
        requests: Requests a second.
    """
    return f"{_shed(window)}\n/ ({requests} > 0)"


def _shed(window: str) -> str:
    """Requests a second that were refused because there were too many."""
    return f"sum by ({SERVICE}) (rate({metrics.REFUSED}{{{SHED}}}[{window}]))"


def rows(window: str) -> str:
    """Rows of production in each bin.

    Args:
        window: A duration.
    """
    counted = f"{metrics.ROWS}[{window}]"
    return f"sum by ({BIN}) (\n  increase({counted})\n  and count_over_time({counted}) >= {SCRAPES}\n)"


def reference() -> str:
    """Rows of the reference in each bin, once for all replicas."""
    return f"max by ({BIN}) (max_over_time({metrics.REFERENCE_ROWS}[{REMEMBERED}]))"


def right() -> str:
    """Rows of the reference that were answered correctly, by bin of the confidence."""
    return f"max by ({MODEL}, bin) (max_over_time({metrics.RIGHT_ROWS}[{REMEMBERED}]))"


def evidence(production: str, reference: str, both: str) -> str:
    """Evidence that production has a distribution of its own, in decimal digits.

    The Bayes factor of two Dirichlet-multinomial distributions against one (E. Gunel and J. Dickey, 1974), within 0.01
    digits of `drift.evidence`.

    Args:
        production: Rows of production by bin, a name.
        reference: Rows of the reference by bin, a name.
        both: Their sums, a name.
    """
    bins = f"count without (bin) ({both})"
    return f"""\
(
  ({_log_beta(production)})
  + ({_log_beta(reference)})
  - ({_log_beta(both)})
  - {_LOG_GAMMA_1} * {bins}
  + ({bins} - 0.5) * ln({bins})
  + 1 / (12 * {bins})
) / 2.302585093"""


def _log_beta(counts: str) -> str:
    """The logarithm of B(counts + 1), B the multivariate beta function, without terms that cancel.

    ln Gamma(x) is (x - 1/2) ln x + 1/(12 x) - 1/(360 x^3), Stirling's series; it is off by 0.0005 at x = 1.
    """
    total = f"sum without (bin) ({counts} + 1)"
    return f"""
    sum without (bin) (
      ({counts} + 0.5) * ln({counts} + 1)
      + 1 / (12 * ({counts} + 1))
      - 1 / (360 * ({counts} + 1) ^ 3)
    )
    - ({total} - 0.5) * ln({total})
    - 1 / (12 * {total})
  """


def psi(production: str, reference: str) -> str:
    """Population stability index: the sum of (p - q) ln(p / q) over the bins; half a row is added to each count.

    Args:
        production: Rows of production by bin, a name.
        reference: Rows of the reference by bin, a name.
    """
    match = f"on ({VARIABLE}) group_left ()"
    p, q = (f"({counts} + 0.5) / {match} sum without (bin) ({counts} + 0.5)" for counts in (production, reference))
    return f"""\
sum without (bin) (
  (
    {p}
    - {q}
  )
  * ln(
    ({p})
    / ({q})
  )
)"""


def estimated(production: str, reference: str, right: str) -> str:
    """Expected share of right answers, without labels.

    The share of production in each bin of the confidence, times the share of the reference's answers there that are
    right (D. Guillory et al., 2021).

    Args:
        production: Rows of production by bin, a name.
        reference: Rows of the reference by bin, a name.
        right: Rows of the reference that were answered correctly, by bin, a name.
    """
    counted = f'sum by ({MODEL}, bin) ({production}{{kind="confidence"}})'
    known = f'sum by ({MODEL}, bin) ({reference}{{kind="confidence"}})'
    return f"""\
sum by ({MODEL}) ({counted} * {right} / clamp_min({known}, 1))
/ (sum by ({MODEL}) ({counted}) > 0)"""


def realised(counts: str) -> str:
    """Share of right outcomes.

    Args:
        counts: Rows by bin, a name: of production, or of the reference.
    """
    return f"""\
sum by ({MODEL}) ({counts}{{kind="outcome",bin="right"}})
/ (sum by ({MODEL}) ({counts}{{kind="outcome"}}) > 0)"""


def lasting(day: str, hour: str) -> str:
    """Evidence of a day, without that of its loudest hour.

    Rows that depend on each other come in bunches: what a single hour says alone is no news of the day.

    Args:
        day: Evidence of a day by column, a selector.
        hour: Evidence of an hour by column, a name.
    """
    return f"{day} - clamp_min(max_over_time({hour}[1d]), 0)"


def limit(evidence: str, digits: float) -> str:
    """The evidence above which a column alarms: so that all columns together have one budget of false alarms.

    Args:
        evidence: Evidence by column, a name.
        digits: The evidence above which a single column would alarm.
    """
    return f"on ({MODEL}) group_left () ({digits:g} + log10(count by ({MODEL}) ({evidence})))"
