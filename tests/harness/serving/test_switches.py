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


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SERVICE_KEY", "SERVICE_KEYS"),  # anybody could ask
        ("SERVICE_LOGS", "SERVICE_LOG"),
        ("SERVICE_AUDITS", "SERVICE_AUDIT"),
        ("SERVICE_ANSWERS", "SERVICE_ANSWER"),
        ("SERVICE_FEEDBAK", "SERVICE_FEEDBACK"),
        ("SERVICE_TRUSTED_PROXY", "SERVICE_TRUSTED_PROXIES"),
    ],
)
def test_a_misspelled_variable_does_not_switch_off_in_silence(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(BentoMLException, match=f"^{name}: there is no such variable; did you mean {meant}\\?$"):
        checks.check_model()


def test_variables_of_others_are_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a Kubernetes service called `service`, and an owner's.
    for name in (
        "SERVICE_PORT",
        "SERVICE_SERVICE_HOST",
        "SERVICE_PORT_3000_TCP",
        "SERVICE_LOGGING",
        "SERVICE_API_KEYS",
    ):
        monkeypatch.setenv(name, "x")
    switches.check(["SERVICE_KEYS", "SERVICE_LOG", "SERVICE_AUDIT"])


@pytest.mark.parametrize("value", ["labels", "LABEL", "on"])
def test_answers_tell_all_or_labels(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SERVICE_ANSWER", value)
    with pytest.raises(BentoMLException, match=f"^SERVICE_ANSWER={value}: it is `full` or `label`$"):
        checks.check_model()
    for value in ("full", "label", ""):
        monkeypatch.setenv("SERVICE_ANSWER", value)
        switches.check()
        assert switches.tells_labels_only() == (value == "label")


def test_what_labels_leave_out_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVICE_ANSWER", "label")
    monkeypatch.setenv("SERVICE_EXPLAIN", "on")
    with pytest.raises(BentoMLException, match=r"^SERVICE_ANSWER=label and SERVICE_EXPLAIN=on: explanations tell"):
        checks.check_model()
