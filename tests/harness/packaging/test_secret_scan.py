"""Secrets in a Bento and in the layers of an image: what is found, and what is none."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from my_experiment.harness.core.errors import UserError
from my_experiment.harness.packaging import bento, secret_scan

AWS = "AKIA" + "Z7QX3M5PB2KD9R4T"
PRIVATE = "-----BEGIN " + "PRIVATE KEY-----\nMIGHAgEA\n"
ADDRESS = "https://me:" + "f8Kd02ms@example.org"
BEARER = "curl -H 'Authorization: Bearer " + "aZ3_" * 10 + "xyz'"
AGE = "AGE-SECRET-KEY-1" + "QZRY9X8GF2" * 5
HASHES = json.dumps({"sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "md5": "ab" * 16})

Files = dict[str, str]


def write(folder: Path, files: Files) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def tar(files: Files) -> bytes:
    """An archive of files; a layer, or an image."""
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as archive:
        for name, text in files.items():
            content = text.encode("latin-1")
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def saved(layers: list[Files], env: list[str], history: list[str]) -> bytes:
    """What `docker save` writes."""
    contents = [tar(layer).decode("latin-1") for layer in layers]
    digests = [f"sha256:{hashlib.sha256(content.encode('latin-1')).hexdigest()}" for content in contents]
    config = {
        "config": {"Env": env, "Labels": {"model_sha256": "ab" * 32}},
        "history": [{"created_by": line} for line in history],
        "rootfs": {"diff_ids": digests},
    }
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "Layers": names}]
    files = {"manifest.json": json.dumps(manifest), "config.json": json.dumps(config)}
    return tar(files | dict(zip(names, contents, strict=True)))


def test_planted_secrets_are_named_and_not_shown(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "src/x/service.py": f'import os\nKEY = "{AWS}"\n',
            "src/key.pem": PRIVATE,
            "src/notes.txt": f"{ADDRESS}\n{BEARER}\n{AGE}\n",
            "src/.netrc": "machine example.org login me\n",
            "src/models/model.json": HASHES,
            "src/models/page.json": json.dumps({"picture": base64.b64encode(bytes(range(90, 190))).decode()}),
            "src/requirements/serve.lock": "x==1 \\\n    --hash=sha256:" + "ab" * 32,
            "bento.sig": AWS,  # a signature may look like anything
        },
    )
    found = list(secret_scan.in_folder(tmp_path))
    assert sorted(line.partition(": ")[0] for line in found) == [
        "src/.netrc",
        "src/key.pem:1",
        "src/notes.txt:1",
        "src/notes.txt:2",
        "src/notes.txt:3",
        "src/x/service.py:2",
    ]
    assert not any(secret in line for line in found for secret in (AWS, "f8Kd02ms", "QZRY9X8GF2"))


def test_layers_variables_and_history_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site, example = "app/venv/lib/python3.11/site-packages", f"# {ADDRESS}\n"
    digest = base64.urlsafe_b64encode(hashlib.sha256(example.encode()).digest()).rstrip(b"=").decode()
    base: Files = {"etc/example": AWS}
    package = {
        f"{site}/x-1.dist-info/RECORD": f"x/urls.py,sha256={digest},{len(example)}\nx/more.py,sha256={digest},9\n",
        f"{site}/x/urls.py": example,  # as it was published
        f"{site}/x/more.py": f'KEY = "{AWS}"\n',  # changed since
        "root/.aws/credentials": f"aws_access_key_id = {AWS}\n",
        "app/model.onnx": f"\0{AWS}",
    }
    deleted = {"root/.aws/.wh.credentials": ""}
    archive = write(tmp_path, {}) / "saved.tar"
    archive.write_bytes(saved([base, package, deleted], ["PATH=/bin", f"TOKEN={AWS}"], ["COPY x", f"RUN x {ADDRESS}"]))
    # No engine: what it would save is what matters here. test_image.py has a real one.
    layer = hashlib.sha256(tar(base)).hexdigest()
    told = json.dumps([{"Id": "ab" * 32, "Config": {"Labels": {}}, "RootFS": {"Layers": [f"sha256:{layer}"]}}])
    (tmp_path / "told.json").write_text(told)
    (tmp_path / "docker").write_text(
        f'#!/bin/sh\ncase "$*" in info) ;; "image inspect "*) cat {tmp_path}/told.json;; '
        f'save*) cp {archive} "${{2#--output=}}";; *) exit 1;; esac\n'
    )
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = [line.partition(": ")[0] for line in secret_scan.in_image("docker", "x:1", "base:1")]
    where = ["configuration:2", "configuration:5", "layer 2/app/venv/lib/python3.11/site-packages/x/more.py:1"]
    assert found == [*where, "layer 2/root/.aws/credentials:1"]
    assert any(line.startswith("layer 1/etc/example:1") for line in secret_scan.in_image("docker", "x:1", None))
    # The command, with the Bento; without a line in its Dockerfile, all layers are read.
    monkeypatch.setattr(bento, "folder_of", lambda tag: write(tmp_path / "bento", {"src/a.py": f"# {ADDRESS}\n"}))
    done = CliRunner().invoke(secret_scan.command, ["x:1"])
    assert isinstance(done.exception, UserError) and "x:1 holds what looks like secrets, 6: " in str(done.exception)
    assert done.stdout.splitlines()[0] == "Bento x:1: src/a.py:1: Basic Auth Credentials"
    assert AWS not in done.stdout


def test_nothing_is_found_where_nothing_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no engine
    monkeypatch.setattr(bento, "folder_of", lambda tag: write(tmp_path / "bento", {"src/models/model.json": HASHES}))
    done = CliRunner().invoke(secret_scan.command, ["x:1"], catch_exceptions=False)
    assert done.stdout == "x:1: no secret in the Bento\n"
