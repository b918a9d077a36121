"""The image of the service: `bentoml build`, then `bentoml containerize` with the Dockerfile of this project.

    python -m <package>.image                   of the workspace, whose Bento it builds
    python -m <package>.image SERVICE:VERSION   of a Bento that is there
    python -m <package>.image --push REGISTRY   the image that was built of the workspace's commit, to a registry

Every command is shown before it runs. A clean commit always gives the same Bento tag and the same layers. Beside the
image, build/ gets an SBOM of what Python finds in it.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ..core import errors, stages
from ..core.paths import NAME
from ..tracking import git, lockfile
from . import bento

ENGINES = ("docker", "podman", "buildah")
SBOM = Path("build/sbom.cdx.json")
# Runs in the image, with the Python of its environment; looks at what the base image's own Python has, too.
DISTRIBUTIONS = """
import glob, json, sys
from importlib.metadata import distributions
path = [*sys.path, *glob.glob(sys.base_prefix + "/lib/python3*/*-packages")]
keys = ("Name", "Version", "License-Expression", "License")
found = (d.metadata for d in distributions(path=path))
print(json.dumps(sorted({(*(each.get(key, "") for key in keys), *each.get_all("Classifier", ())) for each in found})))
"""


class Stored(NamedTuple):
    """An image on this machine.

    Attributes:
        id: The SHA-256 of its configuration.
        labels: Its labels.
        digests: `name@digest` of its manifest, as registries and clusters call it, where the engine knows them.
    """

    id: str
    labels: dict[str, str]
    digests: list[str]


def engines() -> list[str]:
    """Returns the container engines that work on this machine: a client without its daemon does not."""
    return [
        name
        for name in ENGINES
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0
    ]


def engine() -> str:
    """Returns the engine to build with: BentoML's variable names one, else the first that works.

    Raises:
        UserError: Where there is none.
    """
    working = engines()
    wanted = os.environ.get("BENTOML_CONTAINERIZE_BACKEND")
    if wanted and wanted not in working:
        others = " or ".join(working) or "nothing else"
        raise errors.UserError(f"BENTOML_CONTAINERIZE_BACKEND={wanted}: it does not work here; {others} does")
    if not working:
        raise errors.UserError(f"no container engine works here: install (or start) one of {', '.join(ENGINES)}")
    return wanted or working[0]


def labels(tag: str, carried: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels of an image: those of its Bento, and what OCI has names for.

    Args:
        tag: The Bento's tag.
        carried: The Bento's labels.
    """
    name, _, version = tag.partition(":")
    found = {"title": name, "version": version}
    if commit := carried.get("git_commit"):
        found["revision"] = commit + ("-dirty" if carried.get("git_dirty") == "true" else "")
        found["created"] = datetime.fromtimestamp(commit_time(commit), UTC).isoformat()
    if source := git.git("remote", "get-url", "origin"):
        parts = urlsplit(source)
        # A password may stand in front of the host; `git@host:path` is no URL and holds none.
        found["source"] = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else source
    return {f"org.opencontainers.image.{key}": value for key, value in found.items()} | dict(carried)


def commit_time(commit: str) -> int:
    """Returns when a commit was made, in seconds since 1970, or 0 where it is not known here."""
    return int(git.git("show", "--no-patch", "--format=%ct", commit) or 0)


def commit_tag() -> str | None:
    """Returns the tag of the Bento of a commit, or None where something is not committed."""
    commit = git.git("rev-parse", "--short=12", "HEAD")
    return f"{NAME}:{commit}" if commit and not git.dirty() else None


def build_bento() -> str:
    """Builds the workspace's Bento and returns its tag.

    A commit without uncommitted changes names its Bento, so that it is built once; otherwise BentoML invents a version.

    Raises:
        UserError: Where what it packs is missing, or another than dvc.lock says.
    """
    lockfile.check(lockfile.PACKED)  # here too, to say so in one line
    version = []
    if tag := commit_tag():
        version = ["--version", tag.partition(":")[2]]
        if tag in bento.stored_bentos():
            print(f"{tag} is built already")
            return tag
    before = set(bento.stored_bentos())
    show_and_run("bentoml", "build", "--output", "tag", *version)
    (built,) = set(bento.stored_bentos()) - before
    return built


def containerize(builder: str, tag: str, labelled: Mapping[str, str], seconds: int) -> None:
    """Builds the image of a Bento, with the Bento's tag as its name.

    Args:
        builder: The engine.
        tag: The Bento's tag.
        labelled: The labels of the image.
        seconds: The date of everything in it, in seconds since 1970.
    """
    options = [
        f"build-arg=PYTHON={sys.version_info.major}.{sys.version_info.minor}",
        f"build-arg=SOURCE_DATE_EPOCH={seconds}",
        *(f"label={key}={value}" for key, value in labelled.items()),
    ]
    if builder != "docker":
        # OCI's own format has no HEALTHCHECK. Docker takes the date from SOURCE_DATE_EPOCH.
        options += ["format=docker", f"timestamp={seconds}"]
    given = [word for option in options for word in ("--opt", option)]
    # BentoML reads the Dockerfile in its temporary copy of the Bento, which must lie below the working directory.
    show_and_run("bentoml", "containerize", tag, "--backend", builder, *given, cwd=tempfile.gettempdir())


def show_and_run(*command: str, cwd: str = ".") -> None:
    """Runs BentoML of this environment after showing the command.

    Raises:
        UserError: Where it fails.
    """
    where = "" if cwd == "." else f"cd {shlex.quote(cwd)} && "
    print(f"+ {where}{shlex.join(command)}", flush=True)
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore::UserWarning:click.core"}  # BentoML defines --quiet twice
    if subprocess.run([sys.executable, "-m", *command], cwd=cwd, env=quiet, check=False).returncode != 0:
        raise errors.UserError(f"`{' '.join(command[:2])}` failed: its output above says why")


def push(builder: str, tag: str, registry: str) -> list[str]:
    """Pushes an image under its own version, and under the tags of its commit.

    Args:
        builder: The engine that stores it.
        tag: Its name and version.
        registry: Where to, `ghcr.io/someone` for instance. Names there have no capitals.

    Returns:
        The names that it has there.

    Raises:
        UserError: Where there is no such image, or the registry does not take it.
    """
    found = inspect(builder, tag)
    if not found:
        raise errors.UserError(f"there is no image {tag}: run `make image` first")
    name, _, version = tag.partition(":")
    revision = found.labels.get("org.opencontainers.image.revision", "")
    tags = "" if not revision or revision.endswith("-dirty") else git.git("tag", "--points-at", revision) or ""
    names = []
    for each in [version, *tags.split()]:
        # A tag of git may hold what one of an image may not.
        names.append(f"{registry.rstrip('/').lower()}/{name}:{re.sub(r'[^A-Za-z0-9_.-]', '-', each)}")
        for command in ([builder, "tag", tag, names[-1]], [builder, "push", names[-1]]):
            print(f"+ {shlex.join(command)}", flush=True)
            if subprocess.run(command, check=False).returncode != 0:
                raise errors.UserError(f"`{builder} {command[1]}` failed: its output above says why")
    return names


def inspect(builder: str, name: str) -> Stored | None:
    """Returns an image, or None where there is none.

    Args:
        builder: The engine that stores it.
        name: Name and tag, or an id or digest.
    """
    command = ["buildah", "inspect", "--type", "image"] if builder == "buildah" else [builder, "image", "inspect"]
    done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    found: Any = json.loads(done.stdout)
    if builder == "buildah":
        return Stored(f"sha256:{found['FromImageID']}", found["OCIv1"]["config"].get("Labels") or {}, [])
    (image,) = found
    # podman gives what it builds a digest too, which is not that of a registry: it compresses layers on the way there.
    digests = image.get("RepoDigests") or []
    own = [digest.rpartition("@")[2] for digest in digests if digest.startswith("localhost/")]
    digests = [digest for digest in digests if digest.rpartition("@")[2] not in own]
    return Stored(f"sha256:{image['Id'].removeprefix('sha256:')}", image["Config"].get("Labels") or {}, digests)


def labels_of(name: str) -> dict[str, str] | None:
    """Returns the labels of an image on this machine, or None where none of a Bento has that name.

    Args:
        name: Name and tag, an id, or a digest with or without a name.
    """
    inspected = filter(None, (inspect(builder, name) for builder in engines()))
    # No engine finds a digest alone.
    of_digest = (one for one in images() if name in (digest.rpartition("@")[2] for digest in one.digests))
    return next((one.labels for one in (*inspected, *of_digest) if "model_md5" in one.labels), None)


def images(model: str = "") -> list[Stored]:
    """Returns the images on this machine that serve a model.

    Args:
        model: MD5 of models/model.onnx, which labels them; default: any.
    """
    found: list[Stored] = []
    for builder in engines():
        command = [builder, "images", "--quiet", "--no-trunc", "--filter", "dangling=false"]
        command += ["--filter", "label=model_md5" + (f"={model}" if model else "")]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        found += filter(None, (inspect(builder, each) for each in listed.stdout.split()))
    return found


def stored(model: str) -> list[str]:
    """Returns name, id and digests of the images on this machine that serve a model.

    Args:
        model: MD5 of models/model.onnx.
    """
    lines = set()
    for one in images(model):
        name, version = (one.labels.get(f"org.opencontainers.image.{key}", "?") for key in ("title", "version"))
        lines.add(" ".join([f"{name}:{version}", one.id, *one.digests]))
    return sorted(lines)


def run_python(builder: str, image: str, code: str) -> str:
    """Returns what code prints that the Python of an image runs.

    Raises:
        UserError: Where it cannot run.
    """
    if builder == "buildah":
        container = subprocess.check_output(["buildah", "from", image], text=True).strip()
        command = ["buildah", "run", container, "--", "python", "-c", code]
    else:
        command = [builder, "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if builder == "buildah":
        subprocess.run(["buildah", "rm", container], capture_output=True, check=False)
    if done.returncode != 0:
        raise errors.UserError(f"{image} cannot run: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    return done.stdout


def sbom(tag: str, labelled: Mapping[str, str], packages: list[list[str]]) -> dict[str, Any]:
    """Returns an SBOM, CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/), without clock or chance.

    Written here, because `cyclonedx-py` reads environments of this machine, not those of an image.

    Args:
        tag: Name and version of the image.
        labelled: Its labels.
        packages: Name, version, SPDX expression, licence in words ("" where missing) and classifiers of each Python
            package in it.
    """
    name, _, version = tag.partition(":")
    components: list[dict[str, Any]] = []
    if "model_sha256" in labelled:
        digest = labelled["model_sha256"]
        model = {"type": "machine-learning-model", "bom-ref": f"model:{digest}", "name": name, "version": digest[:12]}
        components.append(model | {"hashes": [{"alg": "SHA-256", "content": digest}]})
    for package, number, expression, words, *classifiers in packages:
        purl = f"pkg:pypi/{re.sub('[-_.]+', '-', package).lower()}@{quote(number)}"
        library = {"type": "library", "bom-ref": purl, "name": package, "version": number, "purl": purl}
        # Before SPDX expressions (PEP 639), a classifier said it, or a field that may hold the whole text.
        named = [each.rpartition(" :: ")[2] for each in classifiers if re.match("License :: .+ :: ", each)]
        named = named or [words] * (0 < len(words) < 100)
        licenses: list[Any] = [{"license": {"name": name}} for name in named]
        components.append(library | {"licenses": [{"expression": expression}] if expression else licenses})
    created = labelled.get("org.opencontainers.image.created")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": ({"timestamp": created} if created else {})
        | {"component": {"type": "container", "bom-ref": tag, "name": name, "version": version}},
        "components": components,
    }


def main() -> None:
    """Builds Bento, image and SBOM."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {NAME} image", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bento", nargs="?", help="the tag of a Bento that is there; default: build the workspace's")
    parser.add_argument("--push", metavar="REGISTRY", help="push the image that is there; ghcr.io/someone for instance")
    given = parser.parse_args()
    if given.push == "":
        raise errors.UserError("REGISTRY is empty: say where to, `make push REGISTRY=ghcr.io/someone` for instance")
    tag, builder = given.bento, engine()
    if given.push:
        if not (tag := tag or commit_tag()):
            raise errors.UserError(
                "there are uncommitted changes: commit them, or name what to push (BENTO=name:version)"
            )
        push(builder, tag, given.push)
        return
    if tag is None:
        tag = build_bento()
    bentos = bento.stored_bentos()
    if tag not in bentos:
        raise errors.UserError(f"there is no Bento {tag!r}: `bentoml list` shows those that are there")
    labelled = labels(tag, bentos[tag])
    containerize(builder, tag, labelled, commit_time(bentos[tag].get("git_commit", "")))
    packages = json.loads(run_python(builder, tag, DISTRIBUTIONS))
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(sbom(tag, labelled, packages), indent=2) + "\n", encoding="utf-8")
    found = inspect(builder, tag)
    print(f"image {tag} {found.id if found else ''}\nSBOM  {SBOM}: {len(packages)} Python packages")


if __name__ == "__main__":
    stages.run(main)
