"""A container engine, and the image that `make image` builds with it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, BakedProject, execute
from debian import apt_install


@dataclass(frozen=True)
class Engine:
    """A container engine: the program that runs containers, and the environment it wants."""

    program: str
    env: Mapping[str, str]

    def __call__(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return execute(self.program, *arguments, cwd=ROOT, env=self.env, check=check)

    def inspect(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("image", "inspect", image).stdout)[0]
        return found

    @property
    def locked_down(self) -> list[str]:
        """Options with which nothing can be written but shared memory, and nothing is permitted."""
        more = ["--read-only-tmpfs=false"] if self.program == "podman" else []
        return ["--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host", *more]


@dataclass(frozen=True)
class Image:
    """What `make image` has built, and said."""

    tag: str
    id: str
    project: BakedProject
    env: Mapping[str, str]
    output: str


def find() -> Engine:
    """Finds a container engine, or makes one on Debian 12; skips the test where that is not possible."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for program in ("docker", "podman"):
        if shutil.which(program) and execute(program, "info", cwd=ROOT, check=False).returncode == 0:
            base = f"docker.io/library/python:{python}-slim"
            if execute(program, "pull", base, cwd=ROOT, check=False).returncode == 0:
                return Engine(program, {})
    release = Path("/etc/os-release")
    bookworm = release.exists() and "bookworm" in release.read_text()
    if not (bookworm and os.geteuid() == 0 and python == "3.11"):
        pytest.skip("needs docker or podman with access to python:*-slim, or root on Debian 12 with Python 3.11")
    if not all(map(shutil.which, ("mmdebstrap", "buildah", "podman", "runc"))):
        apt_install("mmdebstrap", "buildah", "podman", "runc", "netavark")
    folder = ROOT / "build/container-engine"  # kept: the stand-in for python:3.11-slim is made once
    made = execute("bash", ROOT / "tests/container-engine.sh", folder, cwd=ROOT, check=False)
    if made.returncode != 0:
        pytest.skip(f"no container engine could be installed: {(made.stderr.strip().splitlines() or ['?'])[-1]}")
    exported = (folder / "env").read_text().removeprefix("export ").split()
    env = dict(variable.split("=", 1) for variable in exported)
    return Engine("podman", {**env, "BENTOML_CONTAINERIZE_BACKEND": "buildah"})


def make_image(project: BakedProject, engine: Engine, home: Path) -> Image:
    """Runs `make image`.

    Args:
        project: Where, after `dvc repro` and a commit.
        engine: What builds.
        home: A folder for the Bento.
    """
    env = {**engine.env, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "true"}
    made = project.run("make", "image", env=env)
    tag, digest = next(line for line in made.stdout.splitlines() if line.startswith("image ")).split()[1:]
    return Image(tag, digest, project, env, made.stdout + made.stderr)
