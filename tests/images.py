"""A registry of images on this machine, and podman that uses it, with a storage of its own."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import apt_install
from processes import running
from programs import free_port


@contextmanager
def registry(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Runs a registry until the end of the block; gives its address, and the environment of what uses it.

    Args:
        folder: Where images and configuration are.
    """
    missing = [name for name in ("docker-registry", "podman", "buildah", "runc") if not shutil.which(name)]
    if missing:
        apt_install(*missing)
    place = f"127.0.0.1:{free_port()}"
    storage = f"{{filesystem: {{rootdirectory: {folder}/data}}}}"
    for name, text in {
        "registry.yml": f"version: 0.1\nstorage: {storage}\nhttp: {{addr: {place}}}\n",
        "storage.conf": f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n',
        "registries.conf": f'[[registry]]\nlocation = "{place}"\ninsecure = true\n',
        # No more open files than this machine allows.
        "containers.conf": '[containers]\ndefault_ulimits = ["nofile={0}:{0}"]\n[engine]\nruntime = "runc"\n'.format(
            resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        ),
    }.items():
        (folder / name).write_text(text)
    files = {
        "CONTAINERS_STORAGE_CONF": "storage",
        "CONTAINERS_REGISTRIES_CONF": "registries",
        "CONTAINERS_CONF": "containers",
    }
    env = {variable: f"{folder}/{name}.conf" for variable, name in files.items()}
    with (
        (folder / "log").open("wb") as log,
        running("docker-registry", "serve", folder / "registry.yml", stdout=log, stderr=log),
    ):
        yield place, {**env, "BENTOML_CONTAINERIZE_BACKEND": "podman"}
