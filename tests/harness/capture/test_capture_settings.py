"""The variables SERVICE_LOG_*: a wrong value is one line."""

from pathlib import Path

import pyrage
import pytest
from my_experiment.harness.capture import settings
from my_experiment.harness.core.errors import UserError

IDENTITY = pyrage.x25519.Identity.generate()


def read(folder: Path, private: dict[str, str] | None = None, **values: str) -> settings.Settings:
    environment = {"SERVICE_LOG": str(folder), **{f"SERVICE_LOG_{name}": value for name, value in values.items()}}
    found = settings.read(private or {}, environment)
    assert found
    return found


def test_nothing_is_kept_by_default() -> None:
    assert settings.read({}, {}) is None
    assert settings.read({}, {"SERVICE_LOG": "", "SERVICE_LOG_SAMPLE": "none"}) is None


def test_values_are_read(tmp_path: Path) -> None:
    found = read(
        tmp_path / "a/b", SAMPLE="0.1", RECIPIENT=f"{IDENTITY.to_public()}\n", KEY="k" * 32, DAYS="7", MB="0.5e3"
    )
    assert found[1:2] + found[3:] == (0.1, b"k" * 32, 7, 500_000_000, {})
    assert str(found.recipient) == str(IDENTITY.to_public()) and (tmp_path / "a/b").is_dir()
    assert str(found) == f"SERVICE_LOG: 10 % of all requests and answers are kept in {tmp_path}/a/b, encrypted"
    plain = read(tmp_path)
    assert (plain.sample, plain.recipient, plain.days) == (1.0, None, 30)
    assert str(plain).endswith("NOT encrypted: SERVICE_LOG_RECIPIENT is not set")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"SAMPLE": "10%"}, "SERVICE_LOG_SAMPLE=10%: a number from 0 to 1 is expected"),
        ({"SAMPLE": "nan"}, "SERVICE_LOG_SAMPLE=nan: a number"),
        ({"DAYS": "1.5"}, "SERVICE_LOG_DAYS=1.5: a whole number from 1 to 36500"),
        ({"DAYS": "0"}, "SERVICE_LOG_DAYS=0: a whole number from 1 to 36500"),
        ({"MB": "-1"}, "SERVICE_LOG_MB=-1: a number from 1"),
        ({"RECIPIENT": "age1abc"}, "SERVICE_LOG_RECIPIENT: .*: the public key of age is expected, age1..."),
        ({"RECIPIENT": str(IDENTITY)}, "SERVICE_LOG_RECIPIENT: this is a secret key: the public key"),
        ({"RECIPIENTS": "x"}, "SERVICE_LOG_RECIPIENTS: there is no such variable; did you mean SERVICE_LOG_RECIPIENT?"),
        ({"IDENTITY": "key.txt"}, "SERVICE_LOG_IDENTITY: the service must not be able to read what it keeps"),
        ({"KEY": "short"}, "SERVICE_LOG_KEY: the schema says `private: hash` for 'name', which needs a random key"),
    ],
)
def test_a_wrong_value_is_one_line_that_betrays_no_secret(tmp_path: Path, values: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        read(tmp_path, {"age": "drop", "name": "hash"} if "KEY" in values else {}, **values)
    assert "\n" not in str(told.value) and str(IDENTITY)[20:] not in str(told.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^SERVICE_LOG=~/log: no shell has replaced the `~`: name the whole path$"):
        read(Path("~/log"))
    with pytest.raises(UserError, match=r"SERVICE_LOG=.*/file/log: the folder cannot be made: Not a directory"):
        read(tmp_path / "file/log")
