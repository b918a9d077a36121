"""The pages of a project: their commands are typed here, as they stand there, and their links lead somewhere."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    ROOT,
    TEMPLATE,
    BakedProject,
    Copy,
    Once,
    edit,
    free_port,
    need_curl,
    quiet,
    wait_until_ready,
    work_off_queue,
)
from PIL import Image
from test_readme import blocks, serve, stop

pytestmark = pytest.mark.pipeline

# The pages of all projects; those without a command, such as the other CI providers', need not be baked.
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (TEMPLATE / "docs").glob("*.md"))]

# Pages whose blocks are scripts, all of which another test runs.
SCRIPTS = {"docs/recovery.md": "test_recovery.py::test_a_new_machine_has_what_the_backups_have"}

# Commands that are only parsed here, for they need what is not here: pattern -> the test that comes closest to them.
ELSEWHERE = {
    # a service that keeps what it is asked, a key, and a home to keep both in
    r"\(umask 077; python -c 'import pyrage.*": "test_loop.py::test_the_loop",
    r"SERVICE_LOG=.*": "test_loop.py::test_the_loop",
    r"python -m my_experiment audit verify .*": "test_loop.py::check_audit",
    r"dvc import-url ~/production data/production": "test_loop.py::test_the_loop",
    r"SERVICE_LOG_IDENTITY=.*": "test_loop.py::test_the_loop",
    # a file in the home folder
    r"export SERVICE_KEYS=.*": "harness/protection/test_keys.py::test_a_key_is_printed_once_and_only_its_hash_is_kept",
    r"python -m my_experiment keys .*": (
        "harness/protection/test_keys.py::test_a_client_changes_to_a_new_key_before_the_old_one_ends"
    ),
    r"SERVICE_LOG_IDENTITY=.* erase .*": "test_loop.py::check_erased",
    # keys in the home folder
    r"openssl .*": "harness/release/test_signing.py::test_a_signature_holds_for_its_files_and_its_key",
    r"python -m my_experiment provenance verify .*": (
        "harness/packaging/test_provenance.py::test_it_holds_for_its_key_and_its_image_alone"
    ),
    r"MODEL_(SIGNING|VERIFY)_KEY=.*": "test_registry.py::test_the_bento_is_what_the_registry_says",
    # an image in a registry, and hosts
    r"make (image|push .*) BENTO=.*": "test_image.py::test_locked_down_it_answers_and_is_healthy",
    r"make release": "harness/delivery/test_release_verb.py::test_the_digest_is_that_of_the_registry",
    r"git add deploy/release.yaml|git commit --message .Release 7.|make deploy": (
        "harness/delivery/test_verbs.py::test_a_release_is_deployed_and_the_next_one_undone"
    ),
    r"python -m my_experiment compare .*": (
        "harness/delivery/test_comparison_classification.py::test_disagreements_shares_and_largest_changes_are_told"
    ),
    r"(SERVICE_LOG_IDENTITY=.* )?make shadow .*": (
        "harness/delivery/test_shadow_images.py::test_answers_are_compared_with_the_recorded_ones"
    ),
    # a project with a delivery
    r"make gates": "test_monitoring.py::test_a_changed_objective_is_written_and_until_then_a_test_says_so",
    # minutes
    r"make (test|lint)": "test_readme.py::test_tests_and_lint_pass_after_the_pipeline",
    r"make (coverage|reproduced)": "test_ci_github.py::test_a_good_commit_passes_and_nothing_runs_again",
    r".* sweep sweep=tpe sweep.trials=100 model=mlp": "test_sweeps.py::test_a_killed_sweep_continues",
    r".* sweep sweep=tpe sweep.seeds=5": "test_sweeps.py::test_hopeless_trials_are_pruned_and_the_best_are_repeated",
    r".* sweep sweep=tpe launcher=joblib .*": (
        "test_sweeps.py::test_a_grid_in_two_processes_ends_in_a_reproducible_commit"
    ),
    r"dvc exp run -S robustness=default.*": (
        "test_pipeline.py::test_attacks_find_what_noise_does_not_and_adversarial_training_helps"
    ),
    # a release
    r"kubectl kustomize .*": "test_kubernetes.py::test_the_cluster_gets_what_the_release_says",
    # an end
    r"make mlflow": "test_readme.py::test_make_mlflow_serves_the_runs",
    # docker, a registry, TensorFlow Serving
    r"docker run .*:VERSION": "test_image.py::test_locked_down_it_answers_and_is_healthy",
    r"docker run .* tensorflow/serving .*": "test_predict.py::test_make_savedmodel",
    r"curl .* http://127.0.0.1:8501/.*": "test_predict.py::test_make_savedmodel",
    # two machines, SLURM
    r"TF_CONFIG=.*": "test_distributed.py::test_two_workers_learn_what_one_does",
    r"srun .*": "test_launchers.py::test_slurm_trains_what_the_pipeline_reproduces",
    # a browser
    r"uv run --no-project .* jupyter lab": "test_tabular.py::test_the_notebook_runs_and_changes_nothing",
    # S3, a web server
    r"dvc import-url s3:.*": "test_data_versioning.py::test_a_folder_is_imported_from_s3",
    r"dvc import-url https:.*": "test_data_versioning.py::test_a_file_is_imported_from_a_web_server",
    # a project that cruft made
    r"uvx cruft update": "test_update.py::test_a_project_of_the_last_release_takes_this_version",
    r"uvx cruft update --variables-to-update .*": "test_update.py::test_answers_can_be_changed_later",
    # a table, and its configuration
    r"cp ~/table.csv .*": "test_tabular.py::tutorial",
    r"dvc add data/raw/table.csv": "test_tabular.py::tutorial",
    r"python -m my_experiment schema( --private)?": "test_tabular.py::tutorial",
    r"curl --form file=@data/raw/table.csv .*": "test_tabular.py::tutorial",
    r"python -m my_experiment predict data/raw/table.csv .*": (
        "test_predict.py::test_a_table_in_bounded_memory_as_the_service_answers"
    ),
}
# Commands that are typed with other arguments.
REPLACED = {
    # They install, ask a package index, or need an engine or a registry: what make would run is there.
    r"make (setup.*|lock.*|image|audit|scan|push .*)": r"make --dry-run \1",
    # As short as can be: these trials take minutes.
    r"(.* sweep sweep=(?:tpe|random|pareto).*)": r"\1 sweep.trials=2 debug=limit",
    # A folder that is there.
    r"dvc import-url /mnt/share/pictures (.*)": r'dvc import-url "$(realpath ../pictures)" \1',
}


def commands(text: str) -> list[str]:
    """Gives the commands of a Markdown text."""
    return [command for block in blocks(text) for command in block]


def elsewhere(command: str) -> bool:
    """Says whether a command is one of those that are not typed here."""
    return any(re.fullmatch(pattern, command) for pattern in ELSEWHERE)


def to_type(command: str) -> str:
    """Gives what is typed here for a command of a page."""
    for pattern, typed in REPLACED.items():
        if re.fullmatch(pattern, command):
            return re.sub(pattern, typed, command)
    return command


@contextmanager
def serving(project: BakedProject, port: int) -> Iterator[None]:
    """Serves the model with the command of the page and explanations, until the end of the block."""
    with serve(project, "SERVICE_EXPLAIN=on make serve", port) as server:
        wait_until_ready(f"http://127.0.0.1:{port}/readyz", server)
        yield
        told = stop(server)
    assert "Traceback" not in told


def draw(folder: Path) -> None:
    """Writes pictures of two classes."""
    random = np.random.default_rng(0)
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for row in range(20):
            pixels = random.integers(0, 128, (8, 8), np.uint8) + (128 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{row}.png")


def add_pictures(project: BakedProject) -> None:
    """Puts pictures where the pages say, and where they are imported from."""
    draw(project.path / "data/raw/images")
    draw(project.path.parent / "pictures")


def release_a_worse_one(project: BakedProject) -> None:
    """Makes the model of the short training champion; the pipeline has a better one then, not yet committed."""
    make_champion(project)
    edit(project, "conf/train/default.yaml", "epochs: 1", "epochs: 12")
    project.run("dvc", "repro")


def make_champion(project: BakedProject) -> None:
    """Makes the model of the short training champion."""
    project.commit("Short")
    project.run("make", "register")
    project.run("make", "promote", "ARGS=gates.calibration=null gates.absolute={}")


def explain_again(project: BakedProject) -> None:
    """Turns on explanations."""
    edit(project, "conf/config.yaml", "- explain: none", "- explain: default")


def commit_results(project: BakedProject) -> None:
    """Commits what the pipeline has written."""
    project.commit("Results")


# What a page takes for granted.
BEFORE = {
    "docs/credit.md": explain_again,
    "docs/delivery.md": make_champion,
    "docs/data-versioning.md": add_pictures,
    "docs/pictures.md": add_pictures,
    "docs/release.md": release_a_worse_one,
    "docs/retrain.md": commit_results,
}


@pytest.fixture(scope="session")
def typed_in(
    once: Once, reproduced_project: BakedProject, bake: Callable[..., BakedProject], copy: Copy
) -> Callable[[str], BakedProject | None]:
    """Gives a project with a page, after a short training that is not committed; None if neither of two has it."""

    def prepare(project: BakedProject) -> None:
        edit(project, "conf/train/default.yaml", "epochs: 60", "epochs: 1")
        edit(project, "conf/config.yaml", "- explain: default", "- explain: none")
        project.commit("Short")
        project.run("dvc", "repro")

    pictures = once("pictures-typed", prepare, lambda: copy(reproduced_project))
    table = once(
        "table-typed",
        prepare,
        lambda: bake(task="tabular-classification", scope="production", dvc_remote="s3", ci="none", deploy="ansible"),
    )

    def with_page(page: str) -> BakedProject | None:
        found = next((project for project in (pictures, table) if project.has_file(page)), None)
        return copy(found) if found else None

    return with_page


@pytest.mark.parametrize("page", [page for page in PAGES if page not in SCRIPTS])
def test_commands_of_the_pages(page: str, typed_in: Callable[[str], BakedProject | None], tmp_path: Path) -> None:
    project = typed_in(page)
    if project is None:
        typed = commands((TEMPLATE / page).read_text(encoding="utf-8"))
        assert all(map(elsewhere, typed)), "no project here has this page"
        return
    text = project.read(page)
    port = free_port()
    env = {"PYTHONPATH": "src", "BENTOML_HOME": str(tmp_path / "bentoml"), "PORT": str(port), "MPLBACKEND": "Agg"}
    BEFORE.get(page, lambda project: None)(project)
    with ExitStack() as servers:
        if ":3000" in "".join(commands(text)):
            servers.enter_context(serving(project, port))
        for command in commands(text):
            if command == "make serve":
                servers.enter_context(serving(project, port))
                continue
            if elsewhere(command):
                project.run("bash", "-n", "-c", command)
                continue
            if command.startswith("curl"):
                need_curl()
            done = project.run("bash", "-c", to_type(command).replace(":3000", f":{port}"), env=env)
            assert "Traceback" not in done.stderr, command
            check_result(project, command, done)


def check_result(project: BakedProject, command: str, done: subprocess.CompletedProcess[str]) -> None:
    """Looks at what some commands of the pages are for."""
    if " sweep model=" in command and "debug=" not in command:
        quiet(done)
        assert "?? conf/experiment/grid-" in project.git_status()
    if command.startswith("curl"):
        answer = done.stdout or f"{np.load('/tmp/answers.npy').shape}"
        assert '"predictions"' in answer or '"explanations"' in answer or answer == "(64, 10)"
    if command == "dvc exp run -S experiment=credit":  # the rule by which the table was made
        means = json.loads(project.read("reports/explanations/values.json"))["importance"]
        assert {*sorted(means, key=lambda name: means[name])[:2]} == {"housing", "purpose"}
    if command == "dvc queue start":
        work_off_queue(project, 2)


def test_what_is_not_typed_is_known() -> None:
    """Nothing is left out without a reason, and no reason outlives its command."""
    texts = [
        (TEMPLATE / page).read_text(encoding="utf-8").replace("{{cookiecutter.package}}", "my_experiment")
        for page in PAGES
    ]
    told = {command for text in texts for command in commands(text)}
    for pattern in [*ELSEWHERE, *REPLACED]:
        assert any(re.fullmatch(pattern, command) for command in told), f"no page says {pattern}"
    for test in [*ELSEWHERE.values(), *SCRIPTS.values()]:
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\b", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.M), test
    for text in texts:
        # Those of nginx are run by harness/protection/test_proxy.py.
        assert {*re.findall(r"^```(\w+)$", text, re.M)} <= {"sh", "mermaid", "text", "python", "nginx"}, (
            "commands stand in blocks of sh"
        )
        for block in blocks(text):
            assert "make serve" not in block or block == ["make serve"], "what follows would never be typed"


ANSWERS = [
    {},
    {"scope": "experiment"},
    {"scope": "experiment", "task": "tabular-regression", "ci": "jenkins", "dvc_remote": "s3"},
    {"task": "tabular-classification", "ci": "gitlab"},
    {"scope": "production", "task": "tabular-regression", "ci": "travis"},
    {"ci": "none"},
    {"scope": "production", "deploy": "ansible"},
    {"scope": "production"},
    {"scope": "production", "deploy": "kubernetes"},
]


@pytest.mark.parametrize("answers", ANSWERS, ids=lambda answers: ",".join(answers.values()) or "default")
def test_links_and_paths_lead_somewhere(bake: Callable[..., BakedProject], answers: dict[str, str]) -> None:
    project = bake(**answers)
    pages = {name for name in project.files() if re.fullmatch(r"README\.md|SECURITY\.md|docs/[^/]+\.md", name)}
    linked = {"README.md", "SECURITY.md"}  # the forges show both
    for page in sorted(pages):
        text = project.read(page)
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            place = (project.path / page).parent / link
            assert place.is_file(), f"{page}: {link}"
            linked.add(place.resolve().relative_to(project.path.resolve()).as_posix())
        for path in re.findall(r"`((?:src|conf|requirements)/[a-z0-9_./]+)`", text):
            assert (project.path / path).exists(), f"{page}: {path}"
        for test in re.findall(r"`(?!tests/)((?:[a-z]+/)?test_\w+)(?:\.py)?`", text):  # of the template
            assert (ROOT / "tests" / ("harness" if "/" in test else "") / f"{test}.py").is_file(), f"{page}: {test}"
    assert linked >= pages, "a page that no other one links to"
    assert len(project.read("README.md").splitlines()) <= 120
    assert all(len(project.read(page).splitlines()) <= 110 for page in pages - {"README.md"})


def test_make_targets_run_what_the_page_says(reproduced_project: BakedProject) -> None:
    rows = re.findall(r"^\| `make (\w+)[^`]*` \| `([^`]+)`", reproduced_project.read("docs/commands.md"), re.M)
    makefiles = reproduced_project.read("Makefile") + reproduced_project.read("make/service.mk")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefiles, re.M)) - {"help"}
    assert {target for target, _ in rows} == targets
    for target, command in rows:
        told = reproduced_project.run("make", "--dry-run", "--always-make", target).stdout
        program = " ".join(command.split()[:4] if " -m my_experiment " in command else command.split()[:3])
        assert program in " ".join(told.split()), f"make {target} does not run {command}"
        assert re.search(rf"make {target}\b", reproduced_project.run("make", "help").stdout)
