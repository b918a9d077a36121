"""Section `equivalent` of conf/ci.yaml."""

from ..core import config
from ..core.config import Section


class Equivalent(Section):
    """What equivalent results of another machine may do.

    Attributes:
        checks: Whether they pass `make reproduced`.
        replaces: Whether `make retrain` may propose them.
    """

    checks: bool
    replaces: bool = False


def equivalent() -> Equivalent:
    """Composes and checks conf/ci.yaml.

    Raises:
        UserError: If the configuration is not valid.
    """
    return config.load_file("ci", "equivalent", Equivalent)
