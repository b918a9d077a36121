"""The command `keys` and the file that it writes."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.protection import clients, guard, keys, settings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def run(file: Path, *words: str) -> Result:
    return CliRunner().invoke(keys.command, words, env={"SERVICE_KEYS": str(file)})


def failed(file: Path, *words: str) -> str:
    """The message of an error."""
    error = run(file, *words).exception
    assert isinstance(error, UserError) and "\n" not in str(error), error
    return str(error)


def test_a_key_is_printed_once_and_only_its_hash_is_kept(file: Path) -> None:
    made = run(
        file, "new", "ward-3", "--role", "predict", "--role", "feedback", "--rate", "100/second", "--answers", "9"
    )
    token = made.stdout.strip()
    assert re.fullmatch("[A-Za-z0-9_-]{43}", token)  # 256 bits
    text = file.read_text()
    assert token not in text and hashlib.sha256(token.encode()).hexdigest() in text
    assert file.stat().st_mode & 0o777 == 0o600
    (client,) = clients.read(file)
    assert client.model_dump(exclude={"sha256"}) == {
        "name": "ward-3",
        "roles": ("predict", "feedback"),
        "rate": "100/second",
        "answers": 9,
    }
    listed = run(file, "list").stdout
    assert listed == f"ward-3: predict, feedback; 100/second, 9 answers a day; {client.sha256[0][:8]}\n"


def test_a_client_changes_to_a_new_key_before_the_old_one_ends(file: Path) -> None:
    run(file, "new", "other", "--role", "metrics")
    run(file, "new", "ward", "--role", "predict")
    file.chmod(0o644)
    second = run(file, "new", "ward").stdout.strip()
    assert [len(client.sha256) for client in clients.read(file)] == [1, 2]
    assert run(file, "revoke", "ward", "--old").stdout == "1 key(s) of ward revoked\n"
    assert clients.read(file)[1].sha256 == (hashlib.sha256(second.encode()).hexdigest(),)
    assert run(file, "revoke", "ward").stdout == "1 key(s) of ward revoked\n"
    assert [client.name for client in clients.read(file)] == ["other"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_commands_at_once_lose_no_key(file: Path) -> None:
    def add(name: str) -> None:
        assert keys.new.callback
        keys.new.callback(name=name, roles=("predict",), rate=None, answers=None, file=file)

    names = {f"client-{number}" for number in range(16)}
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(add, names))
    assert {client.name for client in clients.read(file)} == names
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_mistakes_are_one_line(file: Path) -> None:
    assert "there is no client 'nobody'" in failed(_with(file), "revoke", "nobody")
    assert "say what it may do" in failed(file, "new", "nobody")
    assert "leave out the options" in failed(file, "new", "known", "--role", "explain")
    assert "letters, digits" in failed(file, "new", "a b", "--role", "explain")
    assert "letters, digits" in failed(file, "new", "*", "--role", "explain")
    assert "--rate often: a number of requests in a time is expected, 100/second" in failed(
        file, "new", "more", "--role", "explain", "--rate", "often"
    )
    assert "No such file" in failed(file.parent / "none.yaml", "list")
    assert "No such file" in failed(file.parent / "none/keys.yaml", "new", "a", "--role", "predict")
    assert "SERVICE_KEYS" in CliRunner().invoke(keys.command, ["list"], env={"SERVICE_KEYS": None}).stderr


def _with(file: Path) -> Path:
    run(file, "new", "known", "--role", "predict")
    return file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a file that `keys new` writes is expected: `clients:`, and a list"),
        ("2026-13-45", "it is not YAML: month must be in"),
        ("clients: " + "[" * 3000, "it is not YAML"),
        ("clients: {", "it is not YAML"),
        ("clients: []\nmore: 1", "more: Extra inputs"),
        ("clients: [{name: a}]", r"clients\[0\].roles: Field required"),
        ("clients: [{name: a, roles: []}]", r"clients\[0\].roles: Tuple should have at least 1 item"),
        ("clients: [{name: a, roles: [admin]}]", r"roles\[0\]: Input should be 'predict', 'explain', 'feedback' or"),
        ("clients: [{name: a b, roles: [predict]}]", r"clients\[0\].name: String should match"),
        ("clients: [{name: a, roles: [predict], sha256: [abc]}]", r"sha256\[0\]: String should match"),
        ("clients: [{name: a, roles: [predict], rate: 10}]", "rate: Input should be a valid string"),
        ("clients: [{name: a, roles: [predict], rate: 0/second}]", "rate: String should match"),
        ("clients: [{name: a, roles: [predict], answers: 0}]", "answers: Input should be greater"),
        ("clients: [{name: a, roles: [predict]}, {name: a, roles: [explain]}]", "a is there twice"),
        (
            f"clients: [{{name: a, roles: [predict], sha256: [{'a' * 64}]}}, "
            f"{{name: b, roles: [predict], sha256: [{'a' * 64}]}}]",
            "hash aaaaaaaa... is there twice",
        ),
    ],
)
def test_a_wrong_file_is_one_line(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        clients.read(file)
    assert "\n" not in str(raised.value) and str(raised.value).startswith(str(file))


def test_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.read({}) is None
    with pytest.raises(UserError, match="SERVICE_TRUSTED_PROXIES without SERVICE_KEYS"):
        settings.read({"SERVICE_TRUSTED_PROXIES": "10.0.0.1"})
    for wrong in ("proxy", "10.0.0.1/8", "10.0.0.0/33"):
        with pytest.raises(UserError, match=r"^SERVICE_TRUSTED_PROXIES: .*addresses or networks are expected"):
            settings.read({"SERVICE_KEYS": str(file), "SERVICE_TRUSTED_PROXIES": wrong})
    monkeypatch.setenv("SERVICE_KEYS", str(_with(file)))
    monkeypatch.setenv("SERVICE_TRUSTED_PROXIES", "10.0.0.0/8")
    assert guard.check() == f"SERVICE_KEYS: 1 client(s) of {file} may ask, and whom the proxies 10.0.0.0/8 name"
