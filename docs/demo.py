"""`make demo`: everything that a user does, once, with the default answers, by the commands a user would type."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import yaml
from programs import answering, free_port

ROOT = Path(__file__).resolve().parent.parent


def step(title: str, *command: str, cwd: Path, env: dict[str, str]) -> None:
    """Prints a command and runs it, its output visible.

    Args:
        title: What it does, for a person.
        command: The command and its arguments.
        cwd: Where it runs.
        env: Its environment.

    Raises:
        SystemExit: With the command's status where it fails.
    """
    print(f"\n== {title}\n   {' '.join(command)}", flush=True)
    status = subprocess.run(command, cwd=cwd, env=env).returncode
    if status:
        raise SystemExit(f"error: `{' '.join(command)}` in {cwd} ended with {status}")


def main() -> None:
    """Generates, installs, reproduces, shows, packs and asks for one prediction."""
    target, task = Path(sys.argv[1]).resolve(), sys.argv[2]
    project = target / "my-experiment"
    # The project's own tools come first; nothing of the template's environment may help it.
    bin_dir = project / ".venv" / "bin"
    env = {
        **os.environ,
        "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}",
        "BENTOML_HOME": str(target / "bentoml"),
    }
    env.pop("VIRTUAL_ENV", None)
    if not (project / "dvc.yaml").exists():
        step(
            "Generate a project",
            "cookiecutter",
            ".",
            "--no-input",
            "--output-dir",
            str(target),
            f"task={task}",
            cwd=ROOT,
            env=env,
        )
    step("Install it from its lock", "make", "setup", cwd=project, env=env)
    step("Reproduce its pipeline", "dvc", "repro", cwd=project, env=env)
    step("Its metrics", "dvc", "metrics", "show", cwd=project, env=env)
    print(f"\nThe model card and its pictures:\n   {project}/reports/model_card.md")
    for picture in sorted((project / "reports/plots").glob("*.png")):
        print(f"   {picture}")
    step("Build the Bento", "bentoml", "build", "--output", "tag", cwd=project, env=env)
    listed = subprocess.run(
        ["bentoml", "list", "--output", "yaml"],
        cwd=project,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    bento = max(yaml.safe_load(listed.stdout), key=lambda each: each["creation_time"])["tag"]
    sample = (
        "import json; from my_experiment.harness import prepared; manifest = prepared.manifest();"
        "feed = next(prepared.modality(manifest).feeds('test', 1)); truth = prepared.targets('test')[0];"
        "row = {name: None if value[0] in ('',) or value[0] != value[0] else value[0] for name, value in feed.items()}"
        " if manifest['input'] == 'tables' else feed['image'][0].tolist();"
        "print(json.dumps([row, manifest['classes'][truth] if 'classes' in manifest else truth]))"
    )
    drawn = subprocess.run(["python", "-c", sample], cwd=project, env=env, check=True, capture_output=True, text=True)
    instance, truth = json.loads(drawn.stdout)
    url = f"http://127.0.0.1:{(port := free_port())}"
    serve = ("bentoml", "serve", bento, "--host", "127.0.0.1", "--port", str(port))
    print(f"\n== Serve it\n   {' '.join(serve)}", flush=True)
    with (
        tempfile.TemporaryDirectory() as elsewhere,  # the Bento has all it needs
        answering(*serve, url=f"{url}/readyz", cwd=Path(elsewhere), log=Path(elsewhere) / "serve.log", env=env),
    ):
        answer = httpx.post(f"{url}/predict", json={"instances": [instance]}).raise_for_status().json()
    (prediction,) = answer["predictions"]
    print(f"   an example of the test split, {truth}: answered {prediction}, model {answer['model_version']}")
    print(f"\nDone. The project is yours to look at: cd {project}")


if __name__ == "__main__":
    main()
