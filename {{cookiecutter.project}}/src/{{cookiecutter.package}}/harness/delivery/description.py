"""deploy/release.yaml: the image and the model that production is to have, and the steps that lead there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ..core import config
from ..core.config import Section
from ..core.errors import UserError
from ..core.paths import NAME
from ..tracking import git
from . import written as yaml_text
from .settings import LONGEST_START, Memory, Step
from .settings import text as matching

PATH = Path("deploy/release.yaml")
SHORT = 12  # hex digits of the image's digest that name a release
HEADER = f"# Written by `python -m {NAME} release`. A deployment is a commit of this file, a rollback is a revert.\n"


class Model(Section):
    """A registered version.

    Attributes:
        name: Name of the registered model.
        version: Its number.
        sha256: SHA-256 of model.onnx, which the service must have.
    """

    name: str
    version: Annotated[str, matching("[0-9]+", "the number of a registered version", '"7"')]
    sha256: Annotated[str, matching("[0-9a-f]{64}", "SHA-256 of model.onnx, 64 digits of 0-9a-f,", "0123...")]


class Spec(Section):
    """What is released; the names are those of Kubernetes.

    Attributes:
        release: Name of the release: the first digits of the image's digest.
        image: Repository and digest.
        model: The version.
        replicas: Containers of a slot on each host.
        memory: Memory limit of a container.
        startSeconds: Time after which a container that is not ready is refused, on hosts.
        deadlineSeconds: Time after which an undecided analysis ends the rollout.
        steps: Steps of the rollout.
    """

    release: str
    image: Annotated[
        str,
        matching("[^@ ]+@sha256:[0-9a-f]{64}", "repository and digest", "registry.example.org/model@sha256:0123..."),
    ]
    model: Model
    replicas: int = Field(ge=1, le=99)
    memory: Memory
    startSeconds: int = Field(default=80, ge=1, le=LONGEST_START)
    deadlineSeconds: int = Field(ge=0)
    steps: list[Step]

    @field_validator("image")
    @classmethod
    def _named(cls, image: str, before: ValidationInfo) -> str:
        if before.data.get("release", name(image)) != name(image):
            raise ValueError(
                f"release is {before.data['release']}, and the digest of the image begins with {name(image)}: "
                "`make release` writes both"
            )
        return image


class Metadata(Section):
    """What Kubernetes' tools want of an object.

    Attributes:
        name: `release`.
        annotations: That kustomize does not send it to a cluster.
    """

    name: Literal["release"]
    annotations: dict[str, str]


class Release(Section):
    """The content of release.yaml.

    Attributes:
        apiVersion: `delivery/v1`.
        kind: `Release`.
        metadata: For kustomize.
        spec: What is released.
    """

    apiVersion: Literal["delivery/v1"]
    kind: Literal["Release"]
    metadata: Metadata
    spec: Spec


def name(image: str) -> str:
    """Name of a release.

    Args:
        image: Repository and digest of its image.
    """
    return image.rpartition(":")[2][:SHORT]


def release(spec: Spec) -> Release:
    """A release with what Kubernetes' tools want.

    Args:
        spec: What is released.
    """
    metadata = Metadata(name="release", annotations={"config.kubernetes.io/local-config": "true"})
    return Release(apiVersion="delivery/v1", kind="Release", metadata=metadata, spec=spec)


def text(content: Release) -> str:
    """Text of release.yaml.

    Args:
        content: The release.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes all texts: to Ruby, 1234567890e1 is a number."""

    Dumper.add_representer(
        str, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')
    )
    Dumper.add_representer(dict, lambda dumper, value: dumper.represent_dict(value.items()))
    written: str = yaml.dump(content.model_dump(), Dumper=Dumper, sort_keys=False, width=4096)
    # Keys are words, which need no quotes.
    lines = [line.replace('"', "", 2) if line.lstrip("- ").startswith('"') else line for line in written.splitlines()]
    return HEADER + "\n".join(lines) + "\n"


def parse(written: str, origin: str = str(PATH)) -> Release:
    """A release, verified.

    Args:
        written: Text of release.yaml.
        origin: Where it is from, for messages.

    Raises:
        UserError: If it is no release.
    """
    content: Any = yaml_text.content(written, origin)
    config.check({"release": content}, {"release": Release}, origin=origin)
    return Release.model_validate(content)


def read() -> Release | None:
    """The release in the workspace; None before the first one.

    Raises:
        UserError: If it is not valid.
    """
    return parse(yaml_text.text(PATH)) if PATH.exists() else None


def require() -> Release:
    """The release in the workspace.

    Raises:
        UserError: If there is none, or it is not valid.
    """
    found = read()
    if found is None:
        raise UserError(f"there is no {PATH} yet: run `python -m {NAME} release`, and commit it")
    return found


def earlier(release: str) -> str | None:
    """Text of release.yaml as the last commit had it that described a release; None if none did.

    Args:
        release: Name of the release.
    """
    for commit in (git.git("log", "--format=%H", "--", str(PATH)) or "").split():
        written = git.git("show", f"{commit}:./{PATH}")
        if written is None:  # the commit removed it
            continue
        try:
            if parse(written, f"{PATH} of {commit[:12]}").spec.release == release:
                return written + "\n"
        except UserError:  # of another version of the template
            continue
    return None
