"""Names of columns and classes in section `evaluate`."""

from typing import TYPE_CHECKING

from .. import drift
from ..contracts import Manifest
from . import evaluator, slices
from .settings import check_fixed

if TYPE_CHECKING:
    from .settings import Evaluate


def check(settings: "Evaluate", manifest: Manifest) -> None:
    """Rejects names that the data do not have.

    Args:
        settings: Section `evaluate` of the configuration.
        manifest: Manifest of the prepared data, or what `preparation.described` says of it.

    Raises:
        UserError: Naming the key, the name, and the one that is probably meant.
    """
    check_fixed(settings.fixed, manifest)
    check_fixed(settings.quasi_identifiers, manifest, "quasi_identifiers")
    slices.check(settings.slices, manifest, "evaluate.slices")
    drift.subject(manifest).columns(manifest, settings.monitored)
    if settings.decision:
        evaluator(manifest).check_decision(settings.decision, manifest)
