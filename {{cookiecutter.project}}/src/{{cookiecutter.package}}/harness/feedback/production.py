"""The command `production`: a report about what was asked, on a page that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..core import files, text
from ..core.commands import FILE
from ..core.errors import UserError
from ..core.paths import MODELS, NAME
from . import reading
from .collect import SEGMENTS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..drift.reference import Reference, Variable
    from .production_counts import Production

REPORT, HTML, PLOTS = Path("build/production.md"), Path("build/production.html"), Path("build/production")
WORST = 6  # columns with a histogram
Z = 1.96  # of a 95 % interval


def sections(production: Production, reference: Reference, version: str, effect: float) -> str:
    """The report, whose plots are written to build/production.

    Args:
        production: The counts.
        reference: The reference of the model.
        version: The model's version.
        effect: PSI below which a change is not worth a person's time.
    """
    PLOTS.mkdir(parents=True, exist_ok=True)
    parts = [
        f"# Production of {NAME}",
        f"What model {version} was asked, and how well it answered.",
        *_volume(production),
        *_drift(production, reference, effect),
        *_quality(production, reference),
        *_contributors(production),
    ]
    return "\n\n".join(parts) + "\n"


def _volume(production: Production) -> list[str]:
    from . import production_plots as plots

    weeks = production.weeks
    plots.volume({week: production.rows[week] for week in weeks}, PLOTS / "volume.png")
    table = text.table(("week from", "rows"), [(week, f"{production.rows[week]:,}") for week in weeks])
    others = ", ".join(map(text.escaped, production.told))
    told = [f"Not counted here: {others}; each model has a reference of its own."] if others else []
    return ["## Volume", "\n".join(table), *told, f"![Rows by week]({PLOTS.name}/volume.png)"]


def _drift(production: Production, reference: Reference, effect: float) -> list[str]:
    import numpy as np

    from ..drift.evidence import evidence, limit, psi
    from . import production_plots as plots

    weeks = production.weeks
    counted = production.counts[weeks[0]]
    known = [each for each in reference.variables if (each.kind, each.column) in counted]
    most = limit(len(known))

    def measured(each: Variable, chosen: Sequence[str]) -> tuple[float, float]:
        rows = production.total((each.kind, each.column), chosen)
        return float(evidence(each.rows, rows)), float(psi(each.rows, rows))

    pairs = [(measured(each, weeks), each) for each in known]
    pairs.sort(key=lambda pair: pair[0], reverse=True)
    of_all, known = [digits for digits, _ in pairs], [each for _, each in pairs]
    of_weeks = np.array([[measured(each, [week]) for week in weeks] for each in known])
    alarms = (of_weeks[..., 0] > most) & (of_weeks[..., 1] > effect)
    plots.drift([_name(each) for each in known], weeks, of_weeks[..., 1], alarms, 5 * effect, PLOTS / "drift.png")
    worst = [
        (_name(each), each.bins, each.rows, production.total((each.kind, each.column), weeks)) for each in known[:WORST]
    ]
    plots.histograms(worst, PLOTS / "histograms.png")
    table = text.table(
        ("variable", "evidence", "PSI", "weeks with drift"),
        [
            (_name(each), f"{digits:.1f}", f"{shift:.3f}", f"{int(row.sum())} of {len(weeks)}")
            for each, (digits, shift), row in zip(known, of_all, alarms, strict=True)
        ],
    )
    rule = (
        f"Drift: more than {most:.1f} digits of evidence that production has a distribution of its own, and a PSI "
        f"above {effect:g}. It says that rows are not like those of training, not that answers are wrong."
    )
    names = ", ".join(map(text.escaped, production.private))
    private = [f"Private columns are not kept, and not watched here: {names}."] if names else []
    pictures = [f"![PSI by week]({PLOTS.name}/drift.png)", f"![Histograms]({PLOTS.name}/histograms.png)"]
    return ["## Drift", rule, "\n".join(table), *private, *pictures]


def _name(variable: Variable) -> str:
    return variable.column if variable.kind == "input" else f"{variable.kind} of the model"


def _quality(production: Production, reference: Reference) -> list[str]:
    import numpy as np

    from . import production_plots as plots

    confidence = next((each for each in reference.variables if each.right is not None), None)
    if confidence is None and not production.judged:
        return []
    weeks = production.weeks
    estimated: NDArray[Any] = np.full((len(weeks), 3), np.nan)
    if confidence is not None:
        name = confidence.kind, confidence.column
        estimated = np.array([estimate(confidence, production.total(name, [week])) for week in weeks])
    realized = np.array([wilson(*production.judged[week]) for week in weeks])
    plots.quality(weeks, estimated, realized, PLOTS / "quality.png")
    rows = [
        (week, _interval(guess), _interval(found), f"{production.judged[week][1]:,}")
        for week, guess, found in zip(weeks, estimated, realized, strict=True)
    ]
    table = text.table(("week from", "estimated", "by actual values", "labels"), rows)
    rule = (
        "The share of right answers, with 95 % intervals. The estimate takes confidence in production at the accuracy "
        "that it had in the test split: it follows easier and harder rows, but not a truth that has changed."
    )
    return ["## Quality", rule, "\n".join(table), f"![Quality by week]({PLOTS.name}/quality.png)"]


def estimate(confidence: Variable, rows: NDArray[np.int64]) -> tuple[float, float, float]:
    """Estimated share of right answers, and both ends of its 95 % interval.

    The interval is that of the test split's accuracies, of which each bin has few rows.

    Args:
        confidence: The variable `confidence` of the reference.
        rows: Rows of production in each bin, [K].
    """
    import numpy as np

    from ..drift.evidence import estimated_quality

    assert confidence.right is not None
    value = estimated_quality(confidence.rows, confidence.right, rows)
    known = np.maximum(confidence.rows, 1)
    accuracy = (confidence.right + 0.5) / (known + 1)
    shares = rows / max(rows.sum(), 1)
    half = Z * float(np.sqrt((shares**2 * accuracy * (1 - accuracy) / known).sum()))
    return value, max(value - half, 0.0), min(value + half, 1.0)


def wilson(right: int, total: int) -> tuple[float, float, float]:
    """Share of right answers, and both ends of its 95 % interval; NaN without answers.

    Source: E. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.

    Args:
        right: Number of right answers.
        total: Number of answers.
    """
    if not total:
        return (float("nan"),) * 3
    share, square = right / total, Z**2 / total
    center = (share + square / 2) / (1 + square)
    half = Z * ((share * (1 - share) + square / 4) / total) ** 0.5 / (1 + square)
    return share, center - half, center + half


def _interval(values: Sequence[float]) -> str:
    value, low, high = values
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" if value == value else "-"


def _contributors(production: Production) -> list[str]:
    if not production.contributors:
        return []
    rows = [
        (name, f"{total:,}", _interval(wilson(right, total)))
        for name, (right, total) in sorted(production.contributors.items())
    ]
    table = text.table(("contributor", "labels", "agree with the model"), rows)
    return ["## Feedback", "One who agrees far less than others sees other cases, or labels wrongly.", "\n".join(table)]


@click.command()
@click.argument("path", type=FILE, default=SEGMENTS)
def command(path: Path) -> None:
    """Write a report about production: build/production.md and build/production.html.

    PATH has the segments that the service has kept, data/production by default; or it is what `predict` takes, and is
    watched the same way, without weeks.
    """
    from ..batch import answers
    from ..drift import reference
    from ..evaluation.html import page
    from ..monitoring.settings import monitoring
    from ..serving import log as serving_log
    from . import production_counts

    effect, model = monitoring().psi, answers.load(MODELS)
    if (bins := reference.read(MODELS, model.description)) is None:
        raise UserError(f"{MODELS / reference.FILE} has no bins: the splits are too small, or the model is older")
    segments = reading.open_segments(path) if path.is_dir() or path == SEGMENTS else None
    if segments and not segments.files and (path == SEGMENTS or "columns" in model.description):
        raise UserError(f"{path} has no segments: a service writes one when it is five minutes old, and when it ends")
    if segments and segments.files:
        private = serving_log.private(MODELS, model.description)
        found = production_counts.of_segments(segments, bins, model.description, private)
    else:
        found = production_counts.of_batch(path, model, bins)
    if not found.rows:
        raise UserError(f"{path} has no row of model {model.version}" + "".join(f"; {each}" for each in found.told))
    report = sections(found, bins, model.version, effect)
    files.write_text(REPORT, report)
    files.write_text(HTML, page(report, REPORT.parent, f"Production of {NAME}"))
    print(f"Wrote {REPORT} and {HTML}")
