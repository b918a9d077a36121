"""Models on a large base: the same bytes twice, and an export that answers as Keras does."""

from collections.abc import Callable

import pytest
from conftest import BakedProject

pytestmark = pytest.mark.pipeline


def test_the_slow_tests_of_a_generated_project_pass(
    default_project: BakedProject, copy: Callable[[BakedProject], BakedProject]
) -> None:
    done = copy(default_project).run("python", "-m", "pytest", "-q", "-m", "slow", "tests/code")
    assert "3 passed" in done.stdout.splitlines()[-1]
