"""Licenses of locked packages: expressions are understood, and what does not fit is named."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.packaging import licenses
from support import ROOT

ALLOWED = ["MIT", "MIT License", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-3-Clause"]


@pytest.mark.parametrize(
    ("license_", "fits"),
    [
        ("MIT", True),
        ("MIT License", True),
        ("MIT No Attribution", False),
        ("GPL-2.0-only", False),
        ("MIT AND Apache-2.0", True),
        ("MIT AND GPL-2.0-only", False),
        ("GPL-2.0-only OR MIT", True),
        ("GPL-2.0-only OR MIT AND LGPL-2.1-only", False),
        ("(GPL-2.0-only OR MIT) AND (BSD-3-Clause)", True),
        ("MIT AND Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH another-exception", False),
        ("GPL-2.0-only WITH Classpath-exception-2.0 OR MIT", True),
        ("(MIT", False),
        ("True", False),
        ("__import__('os').abort() OR 1", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_one_of_the_alternatives_has_to_be_allowed(license_: str, fits: bool) -> None:
    assert licenses.fits(license_, ALLOWED) is fits


@pytest.fixture
def project(workspace: Path) -> Path:
    """A project with packages that are installed here."""
    (workspace / "requirements").mkdir()
    lines = ("codespell==1 \\", "    --hash=sha256:00", "yamllint==1 ; x == 'y'", "uvicorn[standard]==1", "not-here==1")
    (workspace / "requirements/dev.lock").write_text("\n".join(lines) + "\n")
    (workspace / "requirements/gpu.lock").write_text("text-unidecode==1\n")
    (workspace / "pyproject.toml").write_text(
        '[tool.licenses]\nallow = ["BSD-3-Clause"]\n[tool.licenses.packages]\ncodespell = "GPL-2.0-only"\n'
    )
    return workspace


def test_each_package_that_does_not_fit_is_a_line(project: Path) -> None:
    done = CliRunner().invoke(licenses.command)
    (line,) = done.output.splitlines()
    assert line.startswith("requirements/dev.lock: yamllint 1.") and line.endswith(": GPL-3.0-or-later")
    assert str(done.exception).startswith("1 of 3 packages have a license that tool.licenses in pyproject.toml")
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text + 'yamllint = "GPL-3.0-or-later"\n')
    assert CliRunner().invoke(licenses.command).output == (
        "3 packages have licenses that pyproject.toml allows; not installed here: not-here\n"
    )
    # A package that was read under another license is looked at again.
    (project / "pyproject.toml").write_text(text + 'yamllint = "MIT"\n')
    assert "yamllint" in CliRunner().invoke(licenses.command).output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"pyproject.toml has no table tool.licenses"),
        ("[tool.licenses]\nallow = 'MIT'", r"pyproject.toml: tool.licenses.allow: "),
        ("[tool.licenses]\nallowed = []", r"pyproject.toml: tool.licenses.allow"),
        ("[tool.licenses]\nallow = []\npackages = {numpy = 1}", r"pyproject.toml: tool.licenses.packages.numpy: "),
        ("[tool", r"pyproject.toml cannot be read: "),
    ],
)
def test_a_wrong_policy_is_one_line(project: Path, text: str, message: str) -> None:
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        licenses.policy()


def test_the_policy_of_a_project_allows_what_it_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(licenses.command)
    assert done.exit_code == 0, done.output
