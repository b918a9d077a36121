"""The SBOM of an image: its Python packages, in CycloneDX 1.6.

Format: https://cyclonedx.org/docs/1.6/json/. It is written here because `cyclonedx-py` reads environments of this
machine, not of an image.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from . import engines

# Runs in the image, with the Python of its environment; also lists the packages of the base image's Python.
DISTRIBUTIONS = """
import glob, json, sys
from importlib.metadata import distributions
path = [*sys.path, *glob.glob(sys.base_prefix + "/lib/python3*/*-packages")]
keys = ("Name", "Version", "License-Expression", "License")
records = (d.metadata for d in distributions(path=path))
print(json.dumps(sorted({(*(r.get(key, "") for key in keys), *r.get_all("Classifier", ())) for r in records})))
"""


def packages(builder: str, image: str) -> list[list[str]]:
    """The Python packages of an image.

    Args:
        builder: The engine.
        image: Name and tag of the image.

    Returns:
        Name, version, SPDX expression, license text ("" if missing) and classifiers of each package.
    """
    content: list[list[str]] = json.loads(engines.run_python(builder, image, DISTRIBUTIONS))
    return content


def document(tag: str, labels: Mapping[str, str], packages: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The SBOM; the same arguments give the same document.

    Args:
        tag: Name and version of the image.
        labels: Labels of the image.
        packages: The Python packages, as `packages` returns them.
    """
    name, _, version = tag.partition(":")
    components = [_library(*package) for package in packages]
    if digest := labels.get("model_sha256"):
        components.insert(0, _model(name, digest))
    metadata: dict[str, Any] = {"component": {"type": "container", "bom-ref": tag, "name": name, "version": version}}
    if created := labels.get("org.opencontainers.image.created"):
        metadata = {"timestamp": created, **metadata}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
    }


def named(words: str, classifiers: Sequence[str]) -> list[str]:
    """Names of the licenses of a package without an SPDX expression (before PEP 639): a classifier, or a short field.

    Args:
        words: The field `License`, which may hold a whole text.
        classifiers: All classifiers.
    """
    names = [text.rpartition(" :: ")[2] for text in classifiers if re.match("License :: .+ :: ", text)]
    return names or ([words] if 0 < len(words) < 100 else [])


def _model(name: str, digest: str) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{digest}",
        "name": name,
        "version": digest[:12],
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _library(name: str, version: str, expression: str, words: str, *classifiers: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{re.sub('[-_.]+', '-', name).lower()}@{quote(version)}"
    if expression:
        licenses: list[Any] = [{"expression": expression}]
    else:
        licenses = [{"license": {"name": license_}} for license_ in named(words, classifiers)]
    library = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    return {**library, "licenses": licenses}
