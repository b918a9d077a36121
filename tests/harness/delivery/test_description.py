"""deploy/release.yaml: what is written is read again, by other tools too, and what is wrong is one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from my_experiment.harness.core import config
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.delivery import description
from my_experiment.harness.delivery.description import PATH, Model, Spec
from my_experiment.harness.delivery.settings import ANALYSIS, Delivery
from support import ROOT, commit, git

DIGEST = f"1234567890e1{0:052}"  # to Ruby, its first twelve digits are a number


def spec(digest: str = DIGEST, **changes: Any) -> Spec:
    """What a release has."""
    content: dict[str, Any] = {
        "release": digest[:12],
        "image": f"registry.example.org/my_experiment@sha256:{digest}",
        "model": Model(name="my_experiment", version="7", sha256="ab" * 32),
        "replicas": 2,
        "memory": "512Mi",
        "deadlineSeconds": 3600,
        "steps": [{"setWeight": 10}, {"pause": {"duration": "2m"}}],
    }
    return Spec(**{**content, **changes})


def test_what_is_written_is_read_again() -> None:
    release = description.release(spec())
    text = description.text(release)
    assert description.parse(text) == release
    assert f'  release: "{DIGEST[:12]}"\n' in text
    assert '    version: "7"\n' in text
    assert yaml.safe_load(text)["metadata"]["annotations"] == {"config.kubernetes.io/local-config": "true"}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kind: ", "kin: ", "release.kin: unknown key; did you mean 'kind'"),
        ("replicas: 2", "replicas: 0", "release.spec.replicas"),
        ("setWeight: 10", "setHeight: 10", "this is none of the steps"),
        ('"2m"', '"2 minutes"', "a duration such as 30s"),
        (f'release: "{DIGEST[:12]}"', 'release: "7"', "the digest of the image begins with 1234567890e1"),
        ("setWeight: 10", "setWeight: true", "this is none of the steps"),
        ('"512Mi"', '"512MB"', "a whole number of Mi or Gi is expected, such as 512Mi, got '512MB'"),
        ('"7"', "2020-01-01", "the number of a registered version is expected"),
        ("replicas: 2", "replicas: 2\n  replicas: 3", "replicas is there twice, again in line"),
        ("@sha256:", ":latest@", "release.spec.image: repository and digest is expected"),
        ("spec:", "spec: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, problem: str) -> None:
    text = description.text(description.release(spec())).replace(old, new, 1)
    with pytest.raises(UserError) as caught:
        description.parse(text)
    told = str(caught.value)
    assert str(PATH) in told and problem in told and "pattern" not in told and len(told) < 500


def test_a_file_that_is_no_text_is_one_line(workspace: Path) -> None:
    PATH.mkdir(parents=True)
    with pytest.raises(UserError, match=r"^deploy/release\.yaml is a folder"):
        description.read()
    PATH.rmdir()
    PATH.write_bytes(b"name: M\xfcller\n")
    with pytest.raises(UserError, match=r"^deploy/release\.yaml is no text in UTF-8"):
        description.read()


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("repository", "https://registry.example.org/model:7", "without https://, tag and digest"),
        ("start", "0s", "such as 80s, got '0s'"),
        ("start", "11m", "such as 80s, got '11m'"),
        ("deadline", "0s", "such as 1h, got '0s'"),
        ("steps", [], "no step asks the gates"),
        ("steps", [{"setWeight": 50}, {"setWeight": 10}, {"analysis": ANALYSIS}], "lower than the one before"),
    ],
)
def test_a_policy_that_cannot_work_is_named(key: str, value: Any, problem: str) -> None:
    settings = yaml.safe_load((ROOT / "conf/delivery.yaml").read_text())
    config.check(settings, {"delivery": Delivery})
    settings["delivery"][key] = value
    with pytest.raises(UserError) as caught:
        config.check(settings, {"delivery": Delivery})
    assert f"delivery.{key}: " in str(caught.value) and problem in str(caught.value)


def test_the_last_commit_of_a_release_is_found(workspace: Path) -> None:
    git("init", "--quiet")
    PATH.parent.mkdir()
    texts = []
    for digest, replicas in (("1" * 64, 1), ("1" * 64, 2), ("2" * 64, 1)):
        texts.append(description.text(description.release(spec(digest, replicas=replicas))))
        PATH.write_text(texts[-1])
        commit()
    PATH.unlink()
    commit()
    assert description.earlier("1" * 12) == texts[1]
    assert description.earlier("2" * 12) == texts[2]
    assert description.earlier("3" * 12) is None
