"""The provenance of an image: from what it was built, and by whom.

An in-toto statement with a predicate of SLSA, https://slsa.dev/spec/v1.0/provenance, in a signed envelope if there is a
key. It is written here because libraries have the format alone, and nothing of what is known: commit, dvc.lock, run.
"""

import json
import os
import re
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from ..core import files, programs
from ..core.commands import FILE
from ..core.errors import UserError
from ..release import signing
from ..tracking import lockfile
from . import engines

PROVENANCE = Path("build/provenance.json")
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD = "https://docs.bentoml.com/en/latest/reference/cli.html#bentoml-containerize"  # how it is built
BY_HAND = "urn:x-builder:by-hand"
# Variables of the CI providers: who builds, and the page of the build.
BUILDERS = ("GITHUB_WORKFLOW_REF", "CI_PROJECT_URL", "JOB_URL", "TRAVIS_REPO_SLUG")
BUILDS = ("CI_JOB_URL", "BUILD_URL", "TRAVIS_BUILD_WEB_URL")

Descriptor = dict[str, Any]  # a ResourceDescriptor of in-toto
Statement = dict[str, Any]


def statement(builder: str, tag: str, image: engines.StoredImage, bento: Path, bill: Path) -> Statement:
    """The provenance of an image that was built just now.

    Args:
        builder: The engine.
        tag: Name and version of Bento and image.
        image: The image.
        bento: The folder of the Bento.
        bill: The SBOM.
    """
    labels = image.labels
    found = {key: labels.get(f"org.opencontainers.image.{key}") for key in ("source", "revision")}
    parameters = {"bento": tag, "python": f"{sys.version_info.major}.{sys.version_info.minor}", **found}
    materials = [*_source(labels), *_model(labels), *_locks(bento), *_base(builder, bento)]
    details: dict[str, Any] = {
        "builder": {"id": _builder(os.environ), "version": _versions(builder)},
        "byproducts": [_file(bill.as_posix(), bill)],
    }
    if page := _build(os.environ):
        details["metadata"] = {"invocationId": page}
    return {
        "_type": STATEMENT,
        "subject": [{"name": tag, "digest": _sha256(image.id)}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": {name: value for name, value in parameters.items() if value},
                "resolvedDependencies": materials,
            },
            "runDetails": details,
        },
    }


def _sha256(digest: str) -> dict[str, str]:
    return {"sha256": digest.rpartition(":")[2]}


def _file(name: str, path: Path) -> Descriptor:
    return {"name": name, "digest": {"sha256": files.digest(path)}}


def _source(labels: Mapping[str, str]) -> Iterator[Descriptor]:
    """Yields the commit, dvc.lock, and what it records: data, code and outputs that a Bento packs."""
    if not (commit := labels.get("git_commit")):
        return
    repository = labels.get("org.opencontainers.image.source", "")
    source: Descriptor = {"name": "commit", "digest": {"gitCommit": commit}}
    if repository:
        source["uri"] = f"git+{repository}@{commit}"
    dirty = labels.get("git_dirty") == "true"
    if dirty:
        source["annotations"] = {"uncommittedChanges": True}
    yield source
    if recorded := labels.get("dvc_lock"):
        yield {"name": str(lockfile.LOCK), "digest": {"sha256": recorded}}
    lock = lockfile.LOCK.read_text(encoding="utf-8") if dirty and lockfile.LOCK.exists() else lockfile.lock_at(commit)
    # After uncommitted changes, dvc.lock may be that of another training than the Bento's.
    if lock and (training := lockfile.training(lock)).key == labels.get("training_key"):
        kept = {path: md5 for path, md5 in lockfile.outputs(lock).items() if path in lockfile.PACKED}
        for path, md5 in sorted((training.inputs | kept).items()):
            folder = md5.endswith(".dir")  # the digest of DVC's list of its files
            yield {"name": f"{path}/" if folder else path, "digest": {"md5": md5.removesuffix(".dir")}}


def _model(labels: Mapping[str, str]) -> Iterator[Descriptor]:
    """Yields model, run and registered version."""
    if digest := labels.get("model_sha256"):
        yield {"name": "model", "digest": {"sha256": digest}}
    if run := labels.get("mlflow_run"):
        yield {"name": "run", "uri": f"runs:/{run}"}
    if version := labels.get("registered_model"):
        yield {"name": "version", "uri": f"models:/{version}"}


def _locks(bento: Path) -> Iterator[Descriptor]:
    source = bento / "src"
    for lock in sorted(source.glob("requirements/*.lock")):
        yield _file(lock.relative_to(source).as_posix(), lock)


def base_name(bento: Path) -> str | None:
    """The base image that the Dockerfile of a Bento names, if it does by `ARG TAG=`.

    Args:
        bento: The folder of the Bento.
    """
    dockerfile = bento / "env/docker/Dockerfile.template"
    text = dockerfile.read_text(encoding="utf-8") if dockerfile.exists() else ""
    tag = re.search(r"^ARG TAG=(\S+)$", text, re.M)
    repository = re.search(r"^FROM (\S+:)\$\{TAG\}$", text, re.M)
    if not (tag and repository):
        return None
    return repository[1] + tag[1].replace("${PYTHON}", f"{sys.version_info.major}.{sys.version_info.minor}")


def _base(builder: str, bento: Path) -> Iterator[Descriptor]:
    """Yields the base image, if the engine still has it."""
    if not (name := base_name(bento)):
        return
    pinned = name.partition("@")[2]
    image = engines.inspect(builder, name)
    if pinned or image:
        digests = [digest.rpartition("@")[2] for digest in image.digests] if image else []
        kind, digest = ("registry", pinned or digests[0]) if pinned or digests else ("id", image.id if image else "")
        yield {"name": "base", "uri": name, "digest": _sha256(digest), "annotations": {"digest": kind}}


def _builder(environment: Mapping[str, str]) -> str:
    """Who builds: the workflow or project of a CI provider; a person otherwise."""
    name = next(filter(None, map(environment.get, BUILDERS)), None)
    if name is None:
        return BY_HAND
    server = environment.get("GITHUB_SERVER_URL") or "https://app.travis-ci.com"
    return name if urllib.parse.urlsplit(name).scheme else f"{server}/{name}"


def _build(environment: Mapping[str, str]) -> str | None:
    if run := environment.get("GITHUB_RUN_ID"):
        return f"{environment.get('GITHUB_SERVER_URL')}/{environment.get('GITHUB_REPOSITORY')}/actions/runs/{run}"
    return next(filter(None, map(environment.get, BUILDS)), None)


def _versions(builder: str) -> dict[str, str]:
    engine = re.search(r"\d[\w.+~-]*", programs.answer(builder, "--version") or "")
    python = ".".join(map(str, sys.version_info[:3]))
    return {"bentoml": metadata.version("bentoml"), builder: engine[0] if engine else "unknown", "python": python}


def write(content: Statement) -> bool:
    """Writes a statement, in a signed envelope if there is a key.

    Args:
        content: The statement.

    Returns:
        Whether it is signed.

    Raises:
        UserError: If it cannot be signed.
    """
    private = signing.key(signing.SIGNING)
    text = json.dumps(content, indent=None if private else 2)
    files.write_text(PROVENANCE, (signing.sealed(private, text) if private else text) + "\n")
    return private is not None


def add_names(image: str, pushed: Mapping[str, str]) -> bool:
    """Adds the names and digests that a registry gave to an image.

    Args:
        image: Id of the image.
        pushed: Name -> digest.

    Returns:
        Whether it was done: the statement is of this image, and its signature can be renewed.

    Raises:
        UserError: If somebody has changed the statement since it was signed.
    """
    if not PROVENANCE.exists():
        return False
    content, private = files.read_json(PROVENANCE), signing.key(signing.SIGNING)
    if ("payload" in content) != (private is not None):
        return False
    if private:
        try:
            content = json.loads(signing.opened(private, json.dumps(content)))
        except UserError as error:
            raise UserError(f"{PROVENANCE}: {error}") from None
    own, *_ = content["subject"]
    if own["digest"] != _sha256(image):
        return False
    content["subject"] = [own, *({"name": name, "digest": _sha256(digest)} for name, digest in pushed.items())]
    return write(content) or private is None


def failures(file: Path, public: Path, image: str | None) -> Iterator[str]:
    """Yields what does not hold of a statement, a line each.

    Args:
        file: The file of the statement.
        public: The public key.
        image: Name, id or digest of the image; None for any.

    Yields:
        What does not hold.

    Raises:
        UserError: If the file cannot be read, or there is no such image.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {getattr(error, 'strerror', None) or 'it is no JSON'}") from None
    if not isinstance(content, dict) or "payload" not in content:
        yield f"{file} is not signed"
        return
    try:
        content = json.loads(signing.opened(public, text))
    except UserError as error:
        yield f"{file}: {error}"
        return
    if (content["_type"], content["predicateType"]) != (STATEMENT, PREDICATE):
        yield f"{file} is no provenance: {PREDICATE} in {STATEMENT} is expected"
        return
    named = {subject["digest"].get("sha256"): subject["name"] for subject in content["subject"]}
    if image and not named.keys() & _digests(image):
        yield f"{file} is of another image than {image}: of {' and '.join(named.values())}"


def _digests(image: str) -> set[str]:
    """The SHA-256 by which an image is known.

    Raises:
        UserError: If there is no such image.
    """
    if given := re.search(r"(?:^|@)sha256:([0-9a-f]{64})$", image):
        return {given[1]}
    stored = [found for found in (engines.inspect(builder, image) for builder in engines.engines()) if found]
    if not stored:
        raise UserError(f"there is no image {image} here: name its digest, sha256:...")
    names = [name for found in stored for name in (found.id, *found.digests)]
    return {name.rpartition(":")[2] for name in names}


@click.group()
def command() -> None:
    """Verify where an image comes from."""


@command.command("verify")
@click.argument("file", type=FILE, default=PROVENANCE)
@click.option("--image", metavar="NAME|DIGEST", help="The image that it must be of: name, id or digest.")
def verify(file: Path, image: str | None) -> None:
    """Verify the provenance in FILE, by default build/provenance.json, with the key MODEL_VERIFY_KEY.

    Needs no network, and no engine if --image is a digest.
    """
    public = signing.key(signing.VERIFYING)
    if public is None:
        raise UserError(f"{signing.VERIFYING} is not set: it names the PEM file of the public key")
    found = list(failures(file, public, image))
    for line in found:
        print(line)
    if found:
        raise UserError(f"{file} does not hold")
    print(f"{file} holds" + (f" for {image}" if image else ""))
