"""A synthetic table of credit applications, to try explanations, slices and decisions on."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..harness.preparation import table_files
from ..harness.preparation.table import OnInvalid, Table

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2000


def applications(*, schema: str, on_invalid: OnInvalid) -> Table:
    """2,000 synthetic credit applications, repaid or defaulted; no real person is among them.

    The chance of a default follows from arrears, savings, years of employment, and the share of the income that has to
    be paid each month (payments, and amount / duration). Sex and age have no effect of their own, but men earn more in
    this table, and younger applicants have been employed for fewer years: their rates of default differ.
    Sex is no input of the model: it is `data.group`, by which results can be compared.

    Args:
        schema: File of the schema.
        on_invalid: Policy for cells that violate the schema, see data/tables.py.
    """
    return Table(
        label="credit",
        files=[table_files.memory("credit", generate)],
        target="outcome",
        problem="classification",
        group="sex",
        schema=Path(schema),
        on_invalid=on_invalid,
    )


@cache
def generate() -> "pa.Table":
    """The applications, the same on every machine: uniform draws, sums and products only."""
    import pyarrow as pa

    random = np.random.default_rng(0)

    def bell() -> NDArray[np.float64]:  # nearly normal: mean 0, standard deviation 1
        draws: NDArray[np.float64] = (random.random((ROWS, 12)) - 0.5).sum(1)
        return draws

    def choice(*levels: str) -> NDArray[np.str_]:
        return np.array(levels)[random.integers(0, len(levels), ROWS)]

    sex = choice("female", "male")
    age = 18 + np.floor(52 * random.random(ROWS) ** 1.3)
    employment = np.floor((age - 18) * random.random(ROWS))
    income = np.round(np.maximum(900, 2300 + 350 * (sex == "male") + 40 * employment + 600 * bell()), -1)
    amount = np.round(1000 + 19000 * random.random(ROWS) ** 2, -2)
    duration = 6.0 * random.integers(1, 13, ROWS)
    payments = np.round(income * 0.35 * random.random(ROWS) ** 2, -1)
    savings = np.round(12 * income * random.random(ROWS) ** 4, -1)
    arrears = np.floor(5 * random.random(ROWS) ** 4)
    burden = (payments + amount / duration) / income  # share of the income that goes into credits
    risk = 5 * burden + 0.9 * arrears - 1.5 * savings / (savings + 5000) - 0.05 * employment - 1.9
    defaulted = random.random(ROWS) < 1 / (1 + np.exp(-1.5 * risk))
    columns = {
        "age": age,
        "employment": employment,
        "housing": choice("owned", "rented", "rent-free"),
        "income": income,
        "payments": payments,
        "savings": savings,
        "arrears": arrears,
        "purpose": choice("business", "car", "education", "furniture"),
        "amount": amount,
        "duration": duration,
        "sex": sex,
        "outcome": np.where(defaulted, "defaulted", "repaid"),
    }
    return pa.table(columns)
