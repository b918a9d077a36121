"""Configuration: what ships is valid, and every mistake is one line that names its key."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness import configuration
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from support import PACKAGE, ROOT

MODEL = {"_target_": f"{PACKAGE}.models.mlp.mlp", "units": [8], "dropout": 0.5}


@pytest.fixture(scope="module")
def shipped() -> str:
    """The configuration as conf/ is now."""
    return str(config.compose(ROOT / "conf"))


@pytest.fixture
def raw(shipped: str, workspace: Path) -> dict[str, Any]:
    """A valid configuration, to be broken."""
    return {**yaml.safe_load(shipped), "model": dict(MODEL)}


def problems(raw: dict[str, Any]) -> list[str]:
    """The lines of what the check says, without its heading."""
    with pytest.raises(UserError) as error:
        configuration.check(yaml.safe_dump(raw))
    heading, *lines = str(error.value).splitlines()
    assert heading == "the configuration in conf/ is not valid:"
    return [line.removeprefix("  ") for line in lines]


def test_what_ships_is_valid(workspace: Path) -> None:
    configuration.check(config.compose())


def test_a_section_is_read_as_its_type(workspace: Path) -> None:
    Path("params.yaml").write_text(config.compose(), encoding="utf-8")
    settings = config.load("evaluate", configuration.SCHEMAS["evaluate"])
    assert settings.model_dump(exclude_unset=True) == config.read()["evaluate"]


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        ("train", "epoch", 3, "train.epoch: unknown key; did you mean 'epochs'?"),
        ("train", "epochs", "many", "train.epochs: input should be a valid integer, got 'many'"),
        ("train", "epochs", 0, "train.epochs: input should be greater than 0, got 0"),
        ("train", "epochs", True, "train.epochs: input should be a valid integer, got True"),
        ("train", "epochs", None, "train.epochs: input should be a valid integer, got None"),
        ("train", "epochs", "???", "train.epochs: no value is set (???); set it in conf/ or with -S train.epochs=..."),
        ("train", "learning_rate", 11.0, "train.learning_rate: input should be less than or equal to 10, got 11.0"),
        ("prepare", "test", float("nan"), "prepare.test: input should be a finite number, got nan"),
        ("train", "monitor", 1, "train.monitor: input should be a valid string, got 1"),
        ("prepare", "test", 0.5, "prepare.test: input should be less than 0.5, got 0.5"),
        ("data", "_target_", "???", "data._target_: no value is set (???)"),
        ("model", "units", [8, "x"], "model.units.1: input should be a valid integer, got 'x'"),
        ("model", "dropout", 1.0, "model.dropout: input should be less than 1, got 1.0"),
        ("train", "strategy", {"xl": True}, "train.strategy.xl: unknown key; did you mean 'xla'?"),
        ("model", "shape", [8, 8, 1], "model.shape: unknown key; known: units, dropout"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_key(raw: dict[str, Any], section: str, key: str, value: Any, line: str) -> None:
    raw[section][key] = value
    assert problems(raw) == [line]


@pytest.mark.parametrize("section", ["data", "model", "train", "prepare", "explain", "evaluate"])
def test_a_missing_key_is_named(raw: dict[str, Any], section: str) -> None:
    key = next(key for key in raw[section] if key not in ("_target_", "strategy"))  # a strategy has a default
    del raw[section][key]
    assert problems(raw) == [f"{section}.{key}: missing, add it"]


@pytest.mark.parametrize(
    "target",
    ["os.system", "system", "", "models.mlp.mlp", f"{PACKAGE}x.models.mlp", f"{PACKAGE}.models.nothing.mlp",
     f"{PACKAGE}.models.mlp.nothing", f"{PACKAGE}.models.mlp"],
)  # fmt: skip
def test_only_functions_of_this_package_are_called(raw: dict[str, Any], target: str) -> None:
    raw["model"]["_target_"] = target
    (line,) = problems(raw)
    assert line.startswith(f"model._target_: {target!r} ")
    with pytest.raises(UserError):
        config.instantiate(raw["model"])


def test_all_mistakes_are_told_at_once(raw: dict[str, Any]) -> None:
    raw["train"]["epoch"], raw["prepare"]["test"], raw["trian"] = 3, 0.7, {}
    del raw["evaluate"]
    named = [line.split(":")[0] for line in problems(raw)]
    assert named == ["evaluate", "prepare.test", "train.epoch", "trian"]


def test_an_unknown_section_is_compared_with_those_there_are(raw: dict[str, Any]) -> None:
    raw["trian"] = raw["train"]
    assert problems(raw) == ["trian: unknown section; did you mean 'train'?"]


@pytest.mark.parametrize("section", ["data", "model"])
def test_a_choice_that_was_not_made_is_named(raw: dict[str, Any], section: str) -> None:
    del raw[section]
    with pytest.raises(UserError, match=rf"^conf/config\.yaml: its defaults must choose {section}$"):
        configuration.check(yaml.safe_dump(raw))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("leak: ${oc.env:HOME}", r"^conf/config\.yaml:\d+: \$\{oc\.env", id="environment"),
        pytest.param("lost: ${nowhere.at_all}", r"nowhere\.at_all", id="interpolation"),
        pytest.param("lost: [1, 2", r"cannot be composed", id="syntax"),
        pytest.param("prepare: {seed: 1}", r"duplicate key prepare", id="twice"),
    ],
)
def test_what_cannot_be_composed_is_one_line(workspace: Path, text: str, named: str) -> None:
    with Path("conf/config.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
    with pytest.raises(UserError, match=named) as error:
        config.compose()
    assert "\n" not in str(error.value)


def test_an_option_that_does_not_exist_is_named(workspace: Path) -> None:
    main = Path("conf/config.yaml")
    main.write_text(main.read_text(encoding="utf-8").replace("- train: default", "- train: defualt"), encoding="utf-8")
    with pytest.raises(UserError, match="train/defualt") as error:
        config.compose()
    assert "\n" not in str(error.value)


def test_a_comment_may_speak_of_the_environment(workspace: Path) -> None:
    with Path("conf/config.yaml").open("a", encoding="utf-8") as file:
        file.write("\n# never ${oc.env:HOME}\n")
    config.compose()


def test_a_missing_params_file_says_what_to_run(workspace: Path) -> None:
    with pytest.raises(UserError, match="dvc repro"):
        config.load("evaluate", configuration.SCHEMAS["evaluate"])
