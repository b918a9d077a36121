"""Robustness of a model of tables: noise, attacks, missing values."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ..core.errors import UserError
from ..core.text import escaped, rounded
from . import search

if TYPE_CHECKING:
    from .contracts import Subject

Numbers = NDArray[np.float64]  # [n, F], NaN if missing
Feed = Mapping[str, NDArray[Any]]  # input of the model -> values of the examples, [n]
Attempts = Iterator[tuple[str, str, float, Numbers]]  # name, title, epsilon, changed numbers
UNIT = "standard deviations"
MISSING = (0.1, 0.2, 0.4)  # shares of the cells


class Columns(NamedTuple):
    """The columns that change, with facts of the training rows.

    Attributes:
        names: Names of the F columns.
        deviation: Standard deviations, [F].
        lowest: Minima, [F].
        highest: Maxima, [F].
        whole: Whether all values are whole numbers, bool [F].
    """

    names: Sequence[str]
    deviation: Numbers
    lowest: Numbers
    highest: Numbers
    whole: NDArray[np.bool_]

    def box(self, clean: Numbers, epsilon: float) -> tuple[Numbers, Numbers]:
        """Lower and upper ends of the changed numbers, [n, F].

        A number stays within epsilon, and within the range of the training rows, unless it is outside itself. Whole
        numbers stay whole, missing ones missing.

        Args:
            clean: The unchanged numbers, [n, F].
            epsilon: Largest change, in standard deviations.
        """
        low = np.maximum(clean - epsilon * self.deviation, self.lowest)
        high = np.minimum(clean + epsilon * self.deviation, self.highest)
        low, high = np.where(self.whole, np.ceil(low), low), np.where(self.whole, np.floor(high), high)
        return np.minimum(low, clean), np.maximum(high, clean)


def table(
    *,
    seed: NonNegativeInt,
    examples: PositiveInt,
    queries: PositiveInt,
    epsilons: Annotated[list[PositiveFloat], Field(min_length=1)],
) -> None:
    """Writes reports/robustness/ for a model of a table.

    Args:
        seed: Seed of all random numbers.
        examples: Maximum number of test rows.
        queries: Maximum number of questions of the search for each row and epsilon.
        epsilons: Largest changes of a number, in standard deviations of its column in the training rows.

    Raises:
        UserError: If no column may change.
    """
    from ..prepared.tables import rows  # here, not above: the stage `config` reads this signature
    from . import report, subject, tables_pairs
    from .contracts import Study, Trial, middle

    found, epsilons = subject.read(examples), sorted({*epsilons})
    fixed = found.settings.fixed
    columns = free([c["name"] for c in found.manifest["columns"] if c["type"] == "number" and c["name"] not in fixed])
    feed = rows("test", found.rows.tolist())
    clean = np.column_stack([feed[name] for name in columns.names])
    attacks = [
        Trial(
            name,
            title,
            epsilon,
            found.outputs(changed_feed(feed, columns, changed)),
            changed if epsilon == middle(epsilons) else None,
        )
        for name, title, epsilon, changed in attempts(found, feed, columns, clean, (queries, epsilons, seed))
    ]
    generator = np.random.default_rng(seed)
    changes = [
        Trial("missing", "missing (share of the cells)", share, found.outputs(cells))
        for share, cells in missing(feed, fixed, generator)
    ]
    notes = [
        "Only numbers were changed, within the range of the training rows; dates and categories stayed as they are.",
        *([f"So did {', '.join(map(escaped, fixed))} (`evaluate.fixed`)."] if fixed else []),
        "The attack is exact: no change within epsilon is worse."
        if "coefficients" in found.description
        else "A longer search may find worse.",
    ]
    study = Study(found, UNIT, found.outputs(feed), attacks, changes, notes)
    report.write(study, tables_pairs.write(study, columns, clean))


def free(names: Sequence[str]) -> Columns:
    """The columns that change.

    Args:
        names: Names of the columns with numbers that are not fixed.

    Raises:
        UserError: If there is none.
    """
    from ..prepared.tables import load

    if not names:
        raise UserError("robustness: no column with numbers may change: choose robustness: none in conf/config.yaml")
    facts = []
    rows = load("train")
    for name in names:
        values = rows[name].to_numpy()
        known = values[np.isfinite(values)] if np.isfinite(values).any() else np.zeros(1)
        facts.append((rounded(known.std()), known.min(), known.max(), bool((known == np.rint(known)).all())))
    deviation, lowest, highest, whole = np.array(facts, np.float64).T
    return Columns(names, deviation, lowest, highest, whole.astype(bool))


def changed_feed(feed: Feed, columns: Columns, changed: Numbers, places: search.Places | None = None) -> Feed:
    """Inputs of the exported model with changed numbers.

    Args:
        feed: The unchanged inputs.
        columns: The columns that change.
        changed: The changed numbers, [m, F].
        places: Which of the examples, [m]; None for all.
    """
    some = feed if places is None else {name: values[places] for name, values in feed.items()}
    return {**some, **dict(zip(columns.names, np.ascontiguousarray(changed.T), strict=True))}


def attempts(
    found: "Subject", feed: Feed, columns: Columns, clean: Numbers, effort: tuple[int, list[float], int]
) -> Attempts:
    """Noise and an attack within each epsilon: exact for a linear model, else a search.

    Args:
        found: The examples and the model.
        feed: The unchanged inputs of the model.
        columns: The columns that change.
        clean: The unchanged numbers.
        effort: Maximum number of questions for each row and epsilon; the epsilons, the smallest first; a seed.

    Yields:
        Name, title, epsilon and changed numbers.
    """
    from tqdm import tqdm

    def ask(changed: Numbers, places: search.Places) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        outputs, targets = found.outputs(changed_feed(feed, columns, changed, places)), found.targets[places]
        return found.kind.loss(outputs, targets), found.kind.settled(outputs, targets)

    queries, epsilons, seed = effort
    generator = np.random.default_rng(seed)
    boxes = [(epsilon, *columns.box(clean, epsilon)) for epsilon in epsilons]
    for epsilon, low, high in boxes:
        yield "noise", "random noise", epsilon, search.signs(low, high, generator)
    if "coefficients" in found.description:
        slopes = found.kind.directions(found.description, columns.names, found.targets)
        for epsilon, low, high in boxes:
            yield "exact", "exact (coefficients)", epsilon, corner(ask, clean, low, high, slopes)
        return
    # None: quiet if stderr is not a terminal.
    best = clean
    with tqdm(total=queries * len(epsilons), desc="robustness", unit=" queries", disable=None) as bar:
        for epsilon, low, high in boxes:
            best = search.search(ask, best, inside(low, high, columns.whole, generator), queries, bar)
            yield "search", f"search ({queries:,} queries)", epsilon, best


def corner(ask: search.Ask, clean: Numbers, low: Numbers, high: Numbers, slopes: Sequence[Numbers]) -> Numbers:
    """The worst changes for a linear model, which lie in a corner of the box.

    Args:
        ask: Loss of changed examples.
        clean: The unchanged numbers, [n, F].
        low: Lower ends, [n, F].
        high: Upper ends, [n, F].
        slopes: Slopes of the losses, each [n, F].
    """
    everyone = np.arange(len(clean))
    worst, losses = clean.copy(), ask(clean, everyone)[0]
    for slope in slopes:
        changed = np.where(slope > 0, high, np.where(slope < 0, low, clean))
        loss, _ = ask(changed, everyone)
        worse = loss > losses
        worst[worse], losses[worse] = changed[worse], loss[worse]
    return worst


def inside(low: Numbers, high: Numbers, whole: NDArray[np.bool_], generator: np.random.Generator) -> search.Propose:
    """Proposals of the search: some columns of each row at an end of their interval, or inside it.

    Args:
        low: Lower ends, [n, F].
        high: Upper ends, [n, F].
        whole: Whether a column has whole numbers, bool [F].
        generator: Source of random numbers.
    """

    def propose(best: Numbers, places: search.Places, progress: float) -> Numbers:
        where = generator.random(best.shape)
        where = np.where(generator.random(best.shape) < 0.5, np.rint(where), where)
        values = low[places] + where * (high[places] - low[places])
        values = np.clip(np.where(whole, np.rint(values), values), low[places], high[places])
        chosen = generator.random(best.shape) < max(search.share(progress), 1 / best.shape[1])
        return np.where(chosen, values, best)

    return propose


def missing(feed: Feed, fixed: Sequence[str], generator: np.random.Generator) -> Iterator[tuple[float, Feed]]:
    """Inputs with missing cells, more and more of them.

    Args:
        feed: The unchanged inputs of the model.
        fixed: Columns without missing cells.
        generator: Source of random numbers.

    Yields:
        Share of the cells, and the inputs.
    """
    draws = {name: generator.random(len(values)) for name, values in feed.items() if name not in fixed}
    for share in MISSING:
        cells = dict(feed)
        for name, drawn in draws.items():
            cells[name] = np.where(drawn < share, "" if feed[name].dtype == object else np.nan, feed[name])
            cells[name] = cells[name].astype(feed[name].dtype)
        yield share, cells
