"""Switches of the service."""

import pytest
from bentoml.exceptions import BentoMLException
from my_experiment.harness.serving import checks, switches


@pytest.mark.parametrize("name", list(switches.DEFAULTS))
@pytest.mark.parametrize("value", ["yes", "true", "1", "ON", " on"])
def test_a_switch_is_on_or_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BentoMLException, match=f"^{name}={value}: a switch is `on` or `off`$"):
        checks.check_model()
    for value in ("on", "off"):
        monkeypatch.setenv(name, value)
        switches.check()
        assert switches.is_on(name) == (value == "on")
    monkeypatch.setenv(name, "")  # as compose files set a variable that is not set
    switches.check()
    assert switches.is_on(name) == (name == "SERVICE_PAGE")
