"""The licenses of the locked packages, judged by the policy in pyproject.toml.

They are read from the metadata of the installed packages, without a network. `pip-licenses` ends at the first package
that does not fit, and takes an expression such as `MIT OR GPL-2.0-only` for the name of a license.
"""

import ast
import re
import tomllib
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

import click
import pydantic

from ..core.errors import UserError, shortened
from . import sbom

PYPROJECT = Path("pyproject.toml")
LOCKS = Path("requirements")
CUDA = "gpu.lock"  # NVIDIA's packages, under a license of its own, which nobody gets from this project
UNKNOWN = "unknown"


class Policy(pydantic.BaseModel, extra="forbid"):
    """What is allowed: table `tool.licenses` in pyproject.toml."""

    allow: list[str]
    packages: dict[str, str] = {}


def policy() -> Policy:
    """Reads the policy.

    Raises:
        UserError: If there is none, or it is wrong.
    """
    try:
        return Policy.model_validate(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["licenses"])
    except KeyError:
        raise UserError(f"{PYPROJECT} has no table tool.licenses: docs/environment.md shows one") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{PYPROJECT} cannot be read: {error}") from None
    except pydantic.ValidationError as invalid:
        first = invalid.errors()[0]
        place = ".".join(map(str, ("tool.licenses", *first["loc"])))
        raise UserError(f"{PYPROJECT}: {place}: {first['msg']}") from None


def locked() -> dict[str, str]:
    """Name of each locked package -> name of a lock that has it."""
    found: dict[str, str] = {}
    for lock in sorted(LOCKS.glob("*.lock")):
        if lock.name != CUDA:
            names = re.findall(r"^([a-z0-9][a-z0-9._-]*)(?:\[.*?\])?==", lock.read_text(encoding="utf-8"), re.M)
            found = {name: lock.name for name in names} | found
    return found


def told(package: str) -> list[str]:
    """The licenses that a package tells, as it names them; all of them apply.

    Args:
        package: Name of an installed package.

    Raises:
        PackageNotFoundError: If it is not installed.
    """
    record = metadata.metadata(package)
    if expression := record.get_all("License-Expression"):
        return expression
    words = record.get_all("License") or [""]
    return sbom.named(words[0], record.get_all("Classifier") or []) or [UNKNOWN]


def fits(license_: str, allowed: Collection[str]) -> bool:
    """Whether a license is allowed; of an SPDX expression, one of its alternatives.

    Args:
        license_: Name of the license, or an expression: https://spdx.github.io/spdx-spec/v3.0/annexes/spdx-license-expressions/.
        allowed: Allowed names.
    """
    if license_ in allowed:
        return True
    words = {"AND": "and", "OR": "or"}  # as in Python, AND binds closer
    text = re.sub(r"[^\s()]+(?: WITH [^\s()]+)?", lambda it: words.get(it[0]) or str(it[0] in allowed), license_)
    try:
        return _holds(ast.parse(text, mode="eval").body)
    except SyntaxError:  # no expression, but a name of several words
        return False


def _holds(node: ast.expr) -> bool:
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(map(_holds, node.values))
    return isinstance(node, ast.Constant) and node.value is True


def misfits(rules: Policy, packages: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields each package whose license is not allowed, and the license.

    Args:
        rules: The policy.
        packages: Names of installed packages.
    """
    for name in packages:
        license_ = told(name)
        if rules.packages.get(name) != "; ".join(license_) and not all(fits(each, rules.allow) for each in license_):
            yield name, "; ".join(license_)


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:  # of another system, or of a lock that is not installed
        return False


@click.command()
def command() -> None:
    """Check the licenses of the locked packages."""
    rules, locks = policy(), locked()
    installed = sorted(filter(_is_installed, locks))
    bad = list(misfits(rules, installed))
    for name, license_ in bad:
        print(f"{LOCKS / locks[name]}: {name} {metadata.version(name)}: {license_}")
    if bad:
        raise UserError(
            f"{len(bad)} of {len(installed)} packages have a license that tool.licenses in {PYPROJECT} does not allow: "
            "do without them, or read the license and add it there"
        )
    others = sorted(locks.keys() - set(installed))
    print(f"{len(installed)} packages have licenses that {PYPROJECT} allows", end="")
    print(f"; not installed here: {shortened(others)}" if others else "")
