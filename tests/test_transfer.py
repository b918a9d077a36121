"""Models on a large base: the same bytes twice, and an export that answers as Keras does."""

from collections.abc import Callable

import pytest
from conftest import BakedProject

pytestmark = pytest.mark.pipeline


def test_the_slow_tests_of_a_generated_project_pass(
    default_project: BakedProject, copy: Callable[[BakedProject], BakedProject]
) -> None:
    done = copy(default_project).run("python", "-m", "pytest", "-q", "-m", "slow", "tests/code")
    # Those of experiments need data/prepared; test_sweeps has them.
    assert "5 passed, 2 skipped" in done.stdout.splitlines()[-1]
