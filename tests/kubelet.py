"""What a node of a cluster does with the pods of a manifest, as far as their commands can tell."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conftest import VENV, Result, execute

Object = dict[str, Any]


def pods(node: Any) -> Iterator[Object]:
    """The specifications of pods in an object, of whatever kind."""
    if isinstance(node, dict) and "containers" in node:
        yield node
    elif isinstance(node, dict | list):
        for each in node.values() if isinstance(node, dict) else node:
            yield from pods(each)


class Pod:
    """A pod of one container, whose volumes are folders."""

    def __init__(self, objects: Sequence[Object], spec: Object, folder: Path, volumes: Mapping[str, Path]) -> None:
        """Makes its volumes.

        Args:
            objects: What was applied: ConfigMaps are taken from there.
            spec: Its specification.
            folder: Where volumes lie that are its own.
            volumes: Name of a claim -> its folder.
        """
        (self.container,) = spec["containers"]
        self._maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
        self.places: dict[str, Path] = {}
        mounts = {each["name"]: each for each in self.container["volumeMounts"]}
        files: dict[Path, str] = {}
        for volume in spec["volumes"]:
            mount = mounts[volume["name"]]
            place = volumes.get(volume.get("persistentVolumeClaim", {}).get("claimName"), folder / volume["name"])
            place.mkdir(parents=True, exist_ok=True)
            if "configMap" in volume:
                place /= mount["subPath"]
                files[place] = self._maps[volume["configMap"]["name"]][mount["subPath"]]
            self.places[mount["mountPath"]] = place
        for file, text in files.items():
            file.write_text(self.here(text), encoding="utf-8")

    def here(self, text: str) -> str:
        """A text with the places of volumes instead of their paths in the container."""
        paths = "|".join(re.escape(path) for path in sorted(self.places, reverse=True))
        return re.sub(rf"(?<![\w.])({paths})(?=[/\s\"']|$)", lambda found: str(self.places[found[1]]), text)

    @property
    def env(self) -> dict[str, str]:
        """The variables of the container."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= self._maps[source["configMapRef"]["name"]]
        found |= {each["name"]: each["value"] for each in self.container.get("env", ())}
        return {name: self.here(value) for name, value in found.items()}

    @property
    def command(self) -> list[str]:
        """What runs in the container."""
        return [self.here(word) for word in (*self.container["command"], *self.container.get("args", ()))]

    @property
    def directory(self) -> Path:
        """Where it runs."""
        return self.places[self.container["workingDir"]]

    def run(self, env: Mapping[str, str], check: bool = True, command: Sequence[str] = ()) -> Result:
        """Runs the container to its end.

        Args:
            env: What the controller sets, and what YOURS in the manifests would be.
            check: Whether an exit status other than 0 fails the test.
            command: What runs in it, if it is not its own command.
        """
        return execute(
            *(command or self.command), cwd=self.directory, env={**self.env, **self._image, **env}, check=check
        )

    def start(self, env: Mapping[str, str]) -> "subprocess.Popen[str]":
        """Starts the container, beside others; what it says is in one stream."""
        return subprocess.Popen(
            self.command,
            cwd=self.directory,
            env={**os.environ, **self.env, **self._image, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def _image(self) -> dict[str, str]:
        """The variables that stand in the Dockerfile."""
        return {"PATH": f"{VENV / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.places["/tmp"])}
