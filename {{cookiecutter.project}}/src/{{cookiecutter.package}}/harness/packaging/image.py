"""The container image of the service; its SBOM and provenance in build/.

`bentoml build` and `bentoml containerize`, with the project's Dockerfile, make the image. Every command is shown before
it runs. A clean commit always gives the same Bento tag and the same layers.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import click

from .. import audit
from ..core import files
from ..core.errors import UserError
from ..core.paths import NAME
from ..release import signing
from ..tracking import git, lockfile
from . import bento, engines, provenance, sbom

SBOM = Path("build/sbom.cdx.json")


def labels(tag: str, bento_labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of an image: its Bento's labels and OCI's annotations.

    Args:
        tag: The Bento's tag.
        bento_labels: The Bento's labels.
    """
    name, _, version = tag.partition(":")
    annotations = {"title": name, "version": version}
    if commit := bento_labels.get("git_commit"):
        annotations["revision"] = f"{commit}-dirty" if bento_labels.get("git_dirty") == "true" else commit
        annotations["created"] = datetime.fromtimestamp(commit_time(commit), UTC).isoformat()
    if remote := git.git("remote", "get-url", "origin"):
        annotations["source"] = _without_password(remote)
    return {f"org.opencontainers.image.{key}": value for key, value in annotations.items()} | dict(bento_labels)


def _without_password(remote: str) -> str:
    parts = urlsplit(remote)
    if not parts.netloc:  # `git@host:path` is not a URL, and holds no password
        return remote
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def commit_time(commit: str) -> int:
    """The time of a commit in seconds since 1970; 0 if unknown."""
    return int(git.git("show", "--no-patch", "--format=%ct", commit) or 0)


def commit_tag() -> str | None:
    """The Bento tag of HEAD, or None if there are uncommitted changes."""
    commit = git.git("rev-parse", "--short=12", "HEAD")
    return f"{NAME}:{commit}" if commit and not git.dirty() else None


def build_bento() -> str:
    """Builds the workspace's Bento, and signs it if there is a key.

    Without uncommitted changes, the commit is the Bento's version, and the Bento is built once; otherwise BentoML
    generates a version.

    Returns:
        The tag of the Bento.

    Raises:
        UserError: If a file to pack is missing, or differs from dvc.lock.
    """
    lockfile.check(lockfile.PACKED)  # before `bentoml build` checks it, so that the error is one line
    version = []
    if tag := commit_tag():
        version = ["--version", tag.partition(":")[2]]
        if tag in bento.stored_bentos():
            print(f"{tag} is built already")
            return tag
    before = set(bento.stored_bentos())
    show_and_run("bentoml", "build", "--output", "tag", *version)
    (built,) = set(bento.stored_bentos()) - before
    bento.sign_built(built)
    return built


def containerize(builder: str, tag: str, image_labels: Mapping[str, str], seconds: int) -> None:
    """Builds the image of a Bento, named by the Bento's tag.

    Args:
        builder: The engine.
        tag: The Bento's tag.
        image_labels: The labels of the image.
        seconds: Timestamp of every file in the image, in seconds since 1970.
    """
    options = [
        f"build-arg=PYTHON={sys.version_info.major}.{sys.version_info.minor}",
        f"build-arg=SOURCE_DATE_EPOCH={seconds}",
        *(f"label={key}={value}" for key, value in image_labels.items()),
    ]
    if builder != "docker":
        # The OCI format has no HEALTHCHECK. Only Docker takes the timestamp from SOURCE_DATE_EPOCH.
        options += ["format=docker", f"timestamp={seconds}"]
    words = [word for option in options for word in ("--opt", option)]
    # BentoML reads the Dockerfile in its temporary copy of the Bento, which must lie below the working directory.
    show_and_run("bentoml", "containerize", tag, "--backend", builder, *words, cwd=tempfile.gettempdir())


def show_and_run(*command: str, cwd: str = ".") -> None:
    """Shows a command and runs it with this environment's Python.

    Args:
        *command: A module and its arguments.
        cwd: Working directory.

    Raises:
        UserError: If the command fails.
    """
    change = "" if cwd == "." else f"cd {shlex.quote(cwd)} && "
    print(f"+ {change}{shlex.join(command)}", flush=True)
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore::UserWarning:click.core"}  # BentoML defines --quiet twice
    if subprocess.run([sys.executable, "-m", *command], cwd=cwd, env=quiet, check=False).returncode != 0:
        raise UserError(f"`{' '.join(command[:2])}` failed: its output above says why")


def push(builder: str, tag: str, registry: str) -> list[str]:
    """Pushes an image under its version and its commit's git tags.

    Args:
        builder: The engine that stores the image.
        tag: Name and version of the image.
        registry: The registry, for instance `ghcr.io/someone`; written in lower case, as registries require.

    Returns:
        The names of the image in the registry.

    Raises:
        UserError: If there is no such image, or the registry rejects it.
    """
    image = engines.inspect(builder, tag)
    if not image:
        raise UserError(f"there is no image {tag}: run `make image` first")
    name, _, version = tag.partition(":")
    revision = image.labels.get("org.opencontainers.image.revision", "")
    tags = "" if not revision or revision.endswith("-dirty") else git.git("tag", "--points-at", revision) or ""
    audit.record("push", image=tag, id=image.id, registry=registry, commit=revision)
    pushed = {}
    for git_tag in [version, *tags.split()]:
        # A git tag may hold characters that an image tag may not.
        pushed_as = f"{registry.rstrip('/').lower()}/{name}:{re.sub(r'[^A-Za-z0-9_.-]', '-', git_tag)}"
        pushed[pushed_as] = _push(builder, tag, pushed_as)
    known = {pushed_as: digest for pushed_as, digest in pushed.items() if digest}
    if known and provenance.add_names(image.id, known):
        print(f"{provenance.PROVENANCE} names what was pushed: {', '.join(sorted({*known.values()}))}")
    return [*pushed]


def _push(builder: str, tag: str, name: str) -> str | None:
    """Pushes an image under a name.

    Returns:
        The digest that the registry gave to it, if the engine tells.
    """
    with tempfile.TemporaryDirectory() as folder:
        digest = Path(folder, "digest")
        # Docker has no such option: it remembers what a registry told.
        option = [] if builder == "docker" else ["--digestfile", str(digest)]
        for command in ([builder, "tag", tag, name], [builder, "push", *option, name]):
            print(f"+ {shlex.join(command)}", flush=True)
            if subprocess.run(command, check=False).returncode != 0:
                raise UserError(f"`{builder} {command[1]}` failed: its output above says why")
        if digest.exists():
            return digest.read_text(encoding="utf-8").strip()
    image, repository = engines.inspect(builder, name), name.rpartition(":")[0]
    digests = [found.partition("@") for found in (image.digests if image else [])]
    return next((digest for where, _, digest in digests if where == repository), None)


@click.command()
@click.argument("bento_tag", required=False, metavar="[NAME:VERSION]")
@click.option(
    "--push", "registry", metavar="REGISTRY", help="Push the image to a registry, for instance ghcr.io/someone."
)
def command(bento_tag: str | None, registry: str | None) -> None:
    """Build the image of a Bento, by default of the workspace."""
    if registry == "":
        raise UserError("REGISTRY is empty: name a registry, `make push REGISTRY=ghcr.io/someone` for instance")
    builder = engines.engine()
    if registry:
        if not (tag := bento_tag or commit_tag()):
            raise UserError("there are uncommitted changes: commit them, or name an image (BENTO=name:version)")
        push(builder, tag, registry)
        return
    build(builder, bento_tag or build_bento())


def build(builder: str, tag: str) -> None:
    """Builds the image of a Bento, its SBOM and its provenance.

    Args:
        builder: The engine.
        tag: The Bento's tag.

    Raises:
        UserError: If there is no such Bento, its signature does not hold, or the build fails.
    """
    bentos = bento.stored_bentos()
    if tag not in bentos:
        raise UserError(f"there is no Bento {tag!r}: `bentoml list` lists them")
    folder = bento.folder_of(tag)
    signing.verify_bento(tag, folder)
    image_labels = labels(tag, bentos[tag])
    containerize(builder, tag, image_labels, commit_time(bentos[tag].get("git_commit", "")))
    packages = sbom.packages(builder, tag)
    files.write_text(SBOM, json.dumps(sbom.document(tag, image_labels, packages), indent=2) + "\n")
    image = engines.inspect(builder, tag)
    if image is None:
        raise UserError(f"{builder} has built {tag}, and does not know it: another process has removed it")
    signed = provenance.write(provenance.statement(builder, tag, image, folder, SBOM))
    print(f"image {tag} {image.id}\nSBOM {SBOM}: {len(packages)} Python packages")
    print(f"provenance {provenance.PROVENANCE}: {'signed' if signed else f'not signed, {signing.SIGNING} is not set'}")
