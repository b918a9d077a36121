"""Secrets in a Bento and in the layers of its image, found by detect-secrets: https://github.com/Yelp/detect-secrets.

Left out is what others have published: the layers of the base image, and files as a package's RECORD describes them.
Hashes stand everywhere here, in locks, labels and the model's description, so that hexadecimal digits are no sign.
"""

import base64
import csv
import hashlib
import json
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import click

from ..core import programs
from ..core.errors import UserError
from ..release import signing
from . import bento, engines, image, provenance

# As the hook of commits, without locks; a signature is as random as a secret.
SCAN = (sys.executable, "-m", "detect_secrets", "scan", "--all-files", "--no-verify")
OPTIONS = ("--disable-plugin", "HexHighEntropyString", "--exclude-files", rf"\.lock$|(^|/){signing.BENTO_SIGNATURE}$")
# What detect-secrets does not know: secret keys of age, and bearer tokens inside of a longer text.
TOKENS = re.compile(rb"AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{50}|[Bb]earer [A-Za-z0-9_-]{43}")
# Files that are for secrets, whatever they hold.
NAMES = {".env", ".netrc", ".git-credentials", ".pypirc", ".dockercfg", "id_rsa", "id_ecdsa", "id_ed25519"}
PICTURES = re.compile(r"(^|/)models/[^/]+\.json$")  # these may hold pictures in base64
LARGEST = 2**24  # bytes of a file that is read; larger ones are models


def in_folder(folder: Path) -> Iterator[str]:
    """Yields the secrets in the files of a folder, a line each: file, line, kind.

    Args:
        folder: The folder.

    Yields:
        What was found, without the secret.

    Raises:
        UserError: If it cannot be scanned.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name in NAMES:
            yield f"{name}: a file for secrets"
        elif path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST:
            for number, line in enumerate(path.read_bytes().splitlines(), 1):
                if TOKENS.search(line):
                    yield f"{name}:{number}: a key or token"
    found = json.loads(programs.run(*SCAN, *OPTIONS, ".", cwd=folder))["results"]
    for name, secrets in sorted(found.items()):
        for secret in secrets:
            if secret["type"] == "Base64 High Entropy String" and PICTURES.search(name):
                continue
            yield f"{name}:{secret['line_number']}: {secret['type']}"


def in_image(builder: str, name: str, base: str | None) -> Iterator[str]:
    """Yields the secrets in the layers of an image, and in its variables, labels and history.

    A file that a later layer has deleted can still be read, by whoever has the image.

    Args:
        builder: The engine.
        name: Name and tag of the image.
        base: Name of its base image; None if it is not known: all layers are scanned.

    Yields:
        What was found, without the secret.

    Raises:
        UserError: If the engine cannot save it, or it cannot be scanned.
    """
    published = set(engines.layers(builder, base)) if base else set()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "image")
        folder.mkdir()
        engines.save(builder, name, archive := Path(temporary, "image.tar"))
        with tarfile.open(archive) as saved:
            (manifest,) = json.load(_member(saved, "manifest.json"))
            config = json.load(_member(saved, manifest["Config"]))
            (folder / "configuration").write_text("\n".join(_told(config)) + "\n", encoding="utf-8")
            for number, (digest, layer) in enumerate(
                zip(config["rootfs"]["diff_ids"], manifest["Layers"], strict=True), 1
            ):
                if digest not in published:
                    with tarfile.open(fileobj=_member(saved, layer)) as content:
                        _extract(content, folder / f"layer {number}")
        yield from in_folder(folder)


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    assert file is not None  # a file, in an archive that an engine has made
    return file


def _told(config: dict[str, object]) -> Iterator[str]:
    """Yields variables, labels and history of an image as lines."""
    run = config.get("config")
    assert isinstance(run, dict)
    yield from run.get("Env") or []
    yield from (f"{name}={value}" for name, value in (run.get("Labels") or {}).items())
    history = config.get("history")
    yield from (str(step.get("created_by", "")) for step in (history if isinstance(history, list) else []))


def _extract(layer: tarfile.TarFile, folder: Path) -> None:
    """Writes the text files of a layer that are not as a package has published them."""
    members = {member.name: member for member in layer if member.isfile() and member.size <= LARGEST}
    known: dict[str, str] = {}
    for name in members:
        if name.endswith(".dist-info/RECORD"):
            site = PurePosixPath(name).parents[1]
            lines = _member(layer, name).read().decode().splitlines()
            known |= {str(site / row[0]): row[1] for row in csv.reader(lines) if len(row) > 1 and row[1]}
    for name in members:
        content = _member(layer, name).read()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        if b"\0" not in content[:8192] and known.get(name) != f"sha256={digest}" and ".." not in name.split("/"):
            path = folder / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@click.command()
@click.argument("tag", required=False, metavar="[NAME:VERSION]")
def command(tag: str | None) -> None:
    """Look for secrets in a Bento, by default of the commit, and in its image if there is one here."""
    tag = tag or image.commit_tag()
    if tag is None:
        raise UserError("there are uncommitted changes: name a Bento, `bentoml list` lists them")
    folder = bento.folder_of(tag)
    found = [f"Bento {tag}: {line}" for line in in_folder(folder)]
    looked = "the Bento"
    for builder in engines.engines():
        if engines.inspect(builder, tag):
            base = provenance.base_name(folder)
            known = base if base and engines.inspect(builder, base) else None
            found += [f"image {tag}: {line}" for line in in_image(builder, tag, known)]
            looked = "the Bento and its image"
            break
    for line in found:
        print(line)
    if found:
        raise UserError(
            f"{tag} holds what looks like secrets, {len(found)}: whoever has it can read them; take them out, and "
            "exchange those that are real"
        )
    print(f"{tag}: no secret in {looked}")
