"""Container engines of this machine, and the images that they store."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from ..core import programs
from ..core.errors import UserError

ENGINES = ("docker", "podman", "buildah")


class StoredImage(NamedTuple):
    """An image on this machine.

    Attributes:
        id: SHA-256 of the image's configuration.
        labels: Labels of the image.
        digests: `name@digest` of the manifest in registries, if the engine knows any.
    """

    id: str
    labels: dict[str, str]
    digests: list[str]


def engines() -> list[str]:
    """The container engines that work; a client without its daemon does not."""
    return [name for name in ENGINES if shutil.which(name) and programs.answer(name, "info") is not None]


def engine() -> str:
    """The engine to build with.

    BENTOML_CONTAINERIZE_BACKEND, a variable of BentoML, names it; otherwise it is the first that works.

    Raises:
        UserError: If no engine works, or the named engine does not.
    """
    working = engines()
    wanted = os.environ.get("BENTOML_CONTAINERIZE_BACKEND")
    if wanted and wanted not in working:
        others = " or ".join(working) or "nothing else"
        raise UserError(f"BENTOML_CONTAINERIZE_BACKEND={wanted}: {wanted} does not work here; {others} does")
    if not working:
        raise UserError(f"no container engine works here: install (or start) one of {', '.join(ENGINES)}")
    return wanted or working[0]


def inspect(builder: str, name: str) -> StoredImage | None:
    """An image, or None if the engine has none of that name.

    Args:
        builder: The engine.
        name: Name and tag, or an id or digest.
    """
    command = ["buildah", "inspect", "--type", "image"] if builder == "buildah" else [builder, "image", "inspect"]
    output = programs.answer(*command, name)
    if output is None:
        return None
    content: Any = json.loads(output)
    if builder == "buildah":
        return StoredImage(f"sha256:{content['FromImageID']}", content["OCIv1"]["config"].get("Labels") or {}, [])
    (image,) = content
    # podman gives a digest to its builds, too; it differs from the registry's, because a push compresses the layers.
    digests = image.get("RepoDigests") or []
    local = {digest.rpartition("@")[2] for digest in digests if digest.startswith("localhost/")}
    digests = [digest for digest in digests if digest.rpartition("@")[2] not in local]
    return StoredImage(f"sha256:{image['Id'].removeprefix('sha256:')}", image["Config"].get("Labels") or {}, digests)


def pull(builder: str, name: str) -> StoredImage:
    """An image of a registry, with its digest there.

    Args:
        builder: The engine.
        name: Repository and tag.

    Raises:
        UserError: If the registry does not have it, or does not answer.
    """
    # buildah would take an image that it has built itself, by the digest of its own manifest, which no registry has.
    policy = ["--policy=always"] if builder == "buildah" else []
    programs.run(builder, "pull", "--quiet", *policy, name)
    image = inspect(builder, name)
    assert image is not None  # it has just come
    return image._replace(digests=_pulled(builder, name))


def _pulled(builder: str, name: str) -> list[str]:
    """`name@digest` of an image that was pulled; several if the registry has it under several digests."""
    repository = name.rpartition(":")[0]
    if builder == "buildah":
        content: Any = json.loads(programs.run("buildah", "inspect", "--type", "image", name))
        return [f"{repository}@{content['FromImageDigest']}"]
    (content,) = json.loads(programs.run(builder, "image", "inspect", name))
    digests = [digest for digest in content["RepoDigests"] if digest.startswith(f"{repository}@")]
    # podman knows an image that it has built by the digest of its own manifest, too, which no registry has.
    others = [digest for digest in digests if not digest.endswith(f"@{content.get('Digest')}")]
    return others or digests


def images(model: str = "") -> list[StoredImage]:
    """The images on this machine that serve a model.

    Args:
        model: MD5 of models/model.onnx, a label of the images; empty for any model.
    """
    stored: list[StoredImage] = []
    for builder in engines():
        label = f"label=model_md5={model}" if model else "label=model_md5"
        command = [builder, "images", "--quiet", "--no-trunc", "--filter", "dangling=false", "--filter", label]
        ids = (programs.answer(*command) or "").split()
        stored += [image for image in (inspect(builder, id_) for id_ in ids) if image]
    return stored


def labels_of(name: str) -> dict[str, str] | None:
    """The labels of a Bento's image on this machine, or None.

    Args:
        name: Name and tag, an id, or a digest with or without a name.
    """
    named = [image for image in (inspect(builder, name) for builder in engines()) if image]
    # Searched here, because no engine finds a digest without a name.
    with_digest = [i for i in images() if name in (digest.rpartition("@")[2] for digest in i.digests)]
    return next((image.labels for image in named + with_digest if "model_md5" in image.labels), None)


def describe(model: str) -> list[str]:
    """Name, id and digests of a model's images, a line each.

    Args:
        model: MD5 of models/model.onnx.
    """
    lines = set()
    for image in images(model):
        name, version = (image.labels.get(f"org.opencontainers.image.{key}", "?") for key in ("title", "version"))
        lines.add(" ".join([f"{name}:{version}", image.id, *image.digests]))
    return sorted(lines)


def layers(builder: str, name: str) -> list[str]:
    """Digests of the layers of an image, the lowest first; none if the engine has no such image.

    Args:
        builder: The engine.
        name: Name and tag of the image.
    """
    command = ["buildah", "inspect", "--type", "image"] if builder == "buildah" else [builder, "image", "inspect"]
    output = programs.answer(*command, name)
    if output is None:
        return []
    content: Any = json.loads(output)
    digests = content["OCIv1"]["rootfs"]["diff_ids"] if builder == "buildah" else content[0]["RootFS"]["Layers"]
    return list(digests)


def save(builder: str, name: str, archive: Path) -> None:
    """Writes an image, with all layers, as an archive in Docker's format.

    Args:
        builder: The engine.
        name: Name and tag of the image.
        archive: The file to write.

    Raises:
        UserError: If that fails.
    """
    if builder == "buildah":
        programs.run("buildah", "push", "--quiet", name, f"docker-archive:{archive}:{name}")
    else:
        option = ["--format=docker-archive"] if builder == "podman" else []
        programs.run(builder, "save", *option, f"--output={archive}", name)


def run_python(builder: str, image: str, code: str) -> str:
    """The output of Python code that runs in an image.

    Args:
        builder: The engine.
        image: Name and tag of the image.
        code: Python code.

    Raises:
        UserError: If the code cannot run.
    """
    if builder != "buildah":
        return programs.run(builder, "run", "--rm", "--network=none", "--entrypoint=python", image, "-c", code)
    container = programs.run("buildah", "from", image)
    try:
        return programs.run("buildah", "run", container, "--", "python", "-c", code)
    finally:
        subprocess.run(["buildah", "rm", container], capture_output=True, check=False)
