"""Continuous training: the newest data go through the pipeline and the gates; what passes is proposed as a branch.

    python -m <package>.retrain                         the present commit, with what its imports hold now
    python -m <package>.retrain gates.latency_ms=50     another gate (Hydra's grammar), as for `registry promote`

It all happens in a work tree of git's below .dvc/tmp, with the cache of DVC that is here: the workspace and its branch
stay as they are, however this ends. What a killed one has left, the next one removes; the stages that it finished
come from the cache.
"""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import errors, paths, stages
from ..core.paths import NAME
from ..release import judge, versions
from ..tracking import git, lockfile, log
from ..tracking import store as tracking_store
from . import ci

if TYPE_CHECKING:
    from ..release.gates import Gate, Gates

TREES = Path(".dvc/tmp/retrain")
# What a workflow reads: the body of the pull request (its first line is the title), the branch where one was proposed.
REPORT, BRANCH, PLOTS = Path("build/report.md"), Path("build/branch"), Path("build/plots")
INPUTS = ("conf", "data", "dvc.yaml", "schema", "src")  # of the pipeline, as git has them
# Without hooks: they are for people, and the work tree has no .venv.
GIT = ("git", "-c", f"core.hooksPath={os.devnull}")
DVC = (sys.executable, "-m", "dvc")


def retrain(overrides: Sequence[str]) -> str:
    """Pulls, updates, reproduces, judges, and proposes what is new and passes.

    Args:
        overrides: Of conf/gates.yaml, in Hydra's grammar.

    Returns:
        What was done, for a person.

    Raises:
        UserError: Where the commit is not clean, a program fails, or the new model does not pass.
    """
    from ..release import gates

    base, remote = clean_commit(), git_remote()
    # What cannot be reached says so now, and not after hours of training.
    listing = _git("ls-remote", "--heads", remote) if remote else _git("for-each-ref", "refs/heads")
    proposed = {line.split()[-1] for line in listing.splitlines()}
    storage = storage_for(remote)
    settings = judge.read_gates(overrides)
    for written in (REPORT, BRANCH):
        written.unlink(missing_ok=True)
    shutil.rmtree(PLOTS, ignore_errors=True)
    REPORT.parent.mkdir(exist_ok=True)
    before = git.git("show", f"{base}:./dvc.lock")
    with alone() as folder, git.work_tree(base, "HEAD", folder / "tree") as tree:
        share_configuration(tree)
        pull_and_update(tree, storage)
        name = f"retrain/{version_of(_git('ls-tree', 'HEAD', '--', *INPUTS, cwd=tree))}"
        if f"refs/heads/{name}" in proposed:
            if remote:
                _git("fetch", "--quiet", "--no-tags", remote, f"refs/heads/{name}", cwd=tree)
            REPORT.write_text(f"# {_git('log', '-1', '--format=%B', 'FETCH_HEAD' if remote else name, cwd=tree)}")
            BRANCH.write_text(f"{name}\n")
            return f"{name} proposes this already: nothing was trained"
        print("dvc repro", file=sys.stderr, flush=True)
        dvc("repro", cwd=tree, shown=True)
        now = (tree / "dvc.lock").read_text(encoding="utf-8")
        changed = news(before, now)
        if changed is None:
            return f"nothing changed: the results are those of {base[:12]}"
        against, found = judge_new(tree, settings)
        failed = [gate.name for gate in found if gate.passed is False]
        title = titled(changed, failed)
        text = f"{against}\n\n{gates.markdown(found)}\n\n{differences(tree, base)}"
        REPORT.write_text(f"# {title}\n\n{text}", encoding="utf-8")
        print(f"\n{title}\n{against}\n\n{gates.table(found)}\n", flush=True)
        if failed:
            raise errors.UserError(
                f"the new model does not pass: {', '.join(failed)}; no branch was made, see {REPORT}"
            )
        commit(tree, f"{title}\n\n{text}", "dvc.lock", "params.yaml")
        if remote:
            if storage:  # before the branch: nobody shall find one without its data
                print("dvc push", file=sys.stderr, flush=True)
                dvc("push", cwd=tree, shown=sys.stderr.isatty())
            _git("push", "--quiet", "--no-follow-tags", remote, f"HEAD:refs/heads/{name}", cwd=tree)
        else:
            _git("branch", "--no-track", name, "HEAD", cwd=tree)
    BRANCH.write_text(f"{name}\n")
    return f"{name} is " + (
        f"on {remote}, not yet merged; {REPORT} tells what it brings"
        if remote
        else f"a branch here (git knows no remote); {REPORT} tells what it brings: git merge {name} && dvc checkout"
    )


def clean_commit() -> str:
    """Returns the present commit, on a branch or not.

    Raises:
        UserError: Where there is none, or files or data differ from it.
    """
    base = git.git("rev-parse", "--verify", "--quiet", "HEAD")
    if base is None:
        raise errors.UserError("git finds no commit here: commit first, a retraining starts from one")
    if lines := _git("status", "--porcelain").splitlines():
        names = ", ".join(line[3:] for line in lines[:3]) + (f" and {len(lines) - 3} more" if len(lines) > 3 else "")
        raise errors.UserError(
            f"not in any commit: {names}; commit (or stash) first, a retraining starts from a commit"
        )
    if changed := [path for path, state in data_states(Path()).items() if state == "modified"]:
        raise errors.UserError(
            f"{changed[0]} is not what the commit says: `dvc checkout {changed[0]}` takes that, or `dvc add "
            f"{changed[0]}` and a commit of its .dvc file take yours"
        )
    for who in ("AUTHOR", "COMMITTER"):
        if git.git("-c", "user.useConfigOnly=true", "var", f"GIT_{who}_IDENT") is None:
            raise errors.UserError("git knows no user.name and user.email for the commit: `git config` sets them")
    return base


def git_remote() -> str | None:
    """Returns the remote that branches go to: origin, or the only one; None where there is none.

    Raises:
        UserError: Where it cannot be told which.
    """
    remotes = _git("remote").splitlines()
    if "origin" in remotes or not remotes:
        return "origin" if remotes else None
    if len(remotes) > 1:
        raise errors.UserError(f"to which of {', '.join(remotes)}? `git remote rename NAME origin` says it")
    return remotes[0]


def storage_for(remote: str | None) -> bool:
    """Says whether DVC has a remote, where the data of a proposal are kept.

    Args:
        remote: The remote of git that the proposal's branch goes to.

    Raises:
        UserError: Where it is a folder that is not here: `dvc push` would make it, and CI's machine be gone tomorrow.
    """
    from dvc.config import Config

    config = Config(".dvc")
    if (name := config["core"].get("remote")) is None:
        return False
    # DVC's reader makes folders absolute; an address is not. A remote that is not described is DVC's to complain about.
    folder = Path(config["remote"].get(name, {}).get("url", ""))
    if remote and folder.is_absolute() and not folder.is_dir():
        raise errors.UserError(
            f"DVC's remote is the folder {folder}, which is not on this machine: a branch on {remote} would name data "
            "that nobody else has; retrain where it is (a first `dvc push` makes it), or take a remote that all reach"
        )
    return True


@contextlib.contextmanager
def alone() -> Iterator[Path]:
    """Keeps a second retraining out, and removes what a killed one has left.

    Yields:
        A new folder, which nobody else may read; another one each time, because a killed one may have left `dvc repro`
        running in its own.

    Raises:
        UserError: Where another retraining is running.
    """
    from filelock import FileLock, Timeout

    TREES.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{TREES}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise errors.UserError("another retraining is running here: wait for it") from None
    try:
        for left in TREES.iterdir():
            git.git("worktree", "remove", "--force", str(left / "tree"))
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=TREES, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    finally:
        lock.release()


def pull_and_update(tree: Path, pushed: bool) -> None:
    """Gets the data: as committed, and then as imports have them where they come from; that is a commit of its own.

    So a run of MLflow names a commit that holds what it was trained on.

    Args:
        tree: Root of the project in the work tree.
        pushed: Whether DVC has a remote.

    Raises:
        UserError: Where data are not to be had.
    """
    if pushed:
        print("dvc pull", file=sys.stderr, flush=True)
        # Outputs that were never pushed are computed.
        dvc("pull", "--allow-missing", cwd=tree, shown=sys.stderr.isatty())
    else:
        dvc("checkout", "--allow-missing", cwd=tree)
    if imports := [file for file in data_files(tree) if "deps" in read_yaml(tree / file)]:
        print(f"dvc update {' '.join(imports)}", file=sys.stderr, flush=True)
        dvc("update", *imports, cwd=tree, shown=sys.stderr.isatty())
    if missing := list(data_states(tree)):
        raise errors.UserError(f"{missing[0]} is neither in DVC's cache here nor on its remote: `dvc push` where it is")
    # Dated as its parent, so that it is the same commit at every attempt: the run from the cache names it, too.
    date = _git("log", "-1", "--format=%cI", cwd=tree).strip()
    commit(tree, "Update imported data", *imports, env={"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date})


def share_configuration(tree: Path) -> None:
    """Gives the work tree the cache, the remotes and the credentials of this folder."""
    from dvc.config import Config, merge

    here = Path(".dvc").resolve()
    own = Config(str(here))
    # DVC's own reader and writer: paths in these files are relative to them.
    with Config(str(tree.resolve() / ".dvc")).edit("local") as shared:
        for level in ("repo", "local"):
            merge(shared, own.load_one(level))
        shared.setdefault("cache", {}).setdefault("dir", str(here / "cache"))


def data_files(folder: Path) -> list[str]:
    """Returns the .dvc files of the commit."""
    return _git("ls-files", "--", "*.dvc", cwd=folder).splitlines()


def data_states(folder: Path) -> dict[str, str]:
    """Returns path -> `modified`, `deleted`, `not in cache` of the data that differ from their .dvc file."""
    if not (files := data_files(folder)):
        return {}
    found = json.loads(dvc("status", "--json", *files, cwd=folder))
    kinds = [kind for entries in found.values() for kind in entries if isinstance(kind, dict)]
    return {path: state for kind in kinds for path, state in kind.get("changed outs", {}).items()}


def news(before: str | None, now: str) -> list[str] | None:
    """Returns the inputs whose change gave other results, none for the first results; None where no result is another.

    Args:
        before: The text of dvc.lock in the commit, if it has one.
        now: Its text after `dvc repro`.

    Raises:
        UserError: Where results differ and nothing that they are made of does: that is noise, which gates let pass.
    """
    inputs, outputs = ci.differing(before or "stages: {}", now)
    if not outputs:
        return None
    if before is None:
        return []
    if commands(before) != commands(now):
        inputs.append("dvc.yaml")
    if not inputs:
        raise errors.UserError(f"no branch was made ({', '.join(outputs)}): {ci.NOISE}")
    return inputs


def commands(lock: str) -> dict[str, Any]:
    """Returns stage -> what it runs.

    Args:
        lock: The text of dvc.lock.
    """
    from yaml import safe_load

    return {name: stage["cmd"] for name, stage in safe_load(lock)["stages"].items()}


def judge_new(tree: Path, settings: "Gates") -> tuple[str, "list[Gate]"]:
    """Puts the new model through the gates, beside the champion of the registry if there is one; moves no alias.

    Args:
        tree: Root of the project in the work tree, reproduced.
        settings: The gates.

    Returns:
        With what it was compared, for a person, and what came out.

    Raises:
        UserError: Where the models cannot be asked about these data, or the registry cannot be reached.
    """
    with contextlib.chdir(tree), tracking_store.in_one_line(), tempfile.TemporaryDirectory() as folder:
        store = tracking_store.client()
        number = versions.aliases(store).get(versions.CHAMPION)
        compared = number is not None and judge.compares(settings)
        champion = judge.fetch(versions.version(store, str(number)), Path(folder)) if compared else None
        data = lockfile.training(lockfile.read_lock()).inputs["data/prepared"]
        model = log.MODELS / "model.onnx"
        candidate = judge.StoredModel("the new model", model, dict(log.model_description()), data)
        found = judge.judge(candidate, champion, settings)
    if champion is None:
        return "Not compared with a champion: " + ("no gate asks for it." if number else "there is none yet."), found
    known = "" if champion.data == data else " It was trained on other data, and may know some of these."
    return f"Compared with {champion.name}, the champion, on the test data of the new version.{known}", found


def titled(why: Sequence[str], failed: Sequence[str]) -> str:
    """Returns the verdict in a line.

    Args:
        why: The inputs that changed.
        failed: The gates that are not passed.
    """
    reasons = ", ".join(why[:3]) + (f" and {len(why) - 3} more" if len(why) > 3 else "")
    changed = f"{reasons} changed" if why else "first results"
    return f"Retraining ({changed}) " + (f"does NOT pass: {', '.join(failed)}" if failed else "passes every gate")


def differences(tree: Path, base: str) -> str:
    """Returns what differs from the base, as Markdown, and writes the page of plots.

    Args:
        tree: Root of the project in the work tree, reproduced.
        base: The commit to compare with.
    """
    files = {}
    for file in data_files(tree):
        old, new = git.git("show", f"{base}:./{file}"), (tree / file).read_text(encoding="utf-8")
        if old is not None and old.strip() != new.strip():
            files[file] = tuple(size_of(text) for text in (old, new))
    sections = [f"What differs from commit {base[:12]}:"]
    if files:
        rows = ["| data | before | now |", "|---|---|---|"]
        sections.append("\n".join([*rows, *(f"| {file} | {old} | {new} |" for file, (old, new) in files.items())]))
    for title, command in (("Metrics", ("metrics", "diff", "--all")), ("Parameters", ("params", "diff"))):
        # The work tree is DVC's workspace, but nobody else's.
        table = dvc(*command, "--md", base[:12], cwd=tree).strip().replace("workspace", "retrained", 1)
        sections.append(f"## {title}\n\n" + (table if len(table.splitlines()) > 2 else "None differs."))
    dvc("plots", "diff", "--out", str(PLOTS.resolve()), base[:12], cwd=tree)
    plots = read_yaml(tree / "dvc.yaml").get("plots", [])
    names = [next(iter(plot)) if isinstance(plot, dict) else plot for plot in plots]
    page = f"{', '.join(names)}: both versions side by side in {PLOTS}/index.html."
    return "\n\n".join([*sections, f"## Plots\n\n{page}"]) + "\n"


def size_of(file: str) -> str:
    """Returns how much data a .dvc file stands for.

    Args:
        file: Its text.
    """
    from yaml import safe_load

    outs = safe_load(file)["outs"]
    count = sum(out.get("nfiles", 1) for out in outs)
    return f"{count} {'file' if count == 1 else 'files'}, {sum(out.get('size', 0) for out in outs):,} bytes"


def version_of(listing: str) -> str:
    """Returns a name for inputs: the same ones are proposed once.

    Args:
        listing: Of `git ls-tree`.
    """
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def read_yaml(file: Path) -> Any:
    """Returns the content of a YAML file."""
    from yaml import safe_load

    return safe_load(file.read_text(encoding="utf-8"))


def commit(tree: Path, message: str, *files: str, env: Mapping[str, str] | None = None) -> None:
    """Commits files of the work tree, if they differ; no branch knows of it yet.

    Args:
        tree: Root of the project in the work tree.
        message: What the commit says.
        files: Which files.
        env: What the environment has besides.
    """
    if files:
        _git("add", "--", *files, cwd=tree)
    if _git("status", "--porcelain", "--untracked-files=no", cwd=tree):
        _git("commit", "--quiet", "--cleanup=verbatim", "--message", message, cwd=tree, env=env)


def _git(*arguments: str, cwd: Path = Path(), env: Mapping[str, str] | None = None) -> str:
    """Runs git and returns what it prints; see `run`."""
    return run("git", GIT, arguments, cwd, env=env)


def dvc(*arguments: str, cwd: Path, shown: bool = False) -> str:
    """Runs DVC and returns what it prints; see `run`."""
    return run("dvc", DVC, arguments, cwd, shown)


def run(
    name: str,
    program: Sequence[str],
    arguments: Sequence[str],
    cwd: Path,
    shown: bool = False,
    env: Mapping[str, str] | None = None,
) -> str:
    """Runs a program.

    Args:
        name: What people call it.
        program: How it is started.
        arguments: Its arguments.
        cwd: Where it runs.
        shown: Whether people see what it tells: progress, or the output of stages.
        env: What the environment has besides.

    Returns:
        What it printed; nothing where that was shown.

    Raises:
        UserError: With the reason, in a line, where it fails.
    """
    pipe = None if shown else subprocess.PIPE
    done = subprocess.run(
        [*program, *arguments], cwd=cwd, env={**os.environ, **(env or {})},
        stdout=pipe, stderr=pipe, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise errors.UserError(f"`{name} {arguments[0]}` failed: {reason(done.stderr or '')}; no branch was made")
    return done.stdout or ""


def reason(told: str) -> str:
    """Returns the line of a program's standard error that says why it failed.

    Args:
        told: The text, empty where people have seen it.
    """
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("ERROR:", "fatal:", "error:", "! "))]
    return (marked or lines[-1:] or ["see above"])[0].removeprefix("ERROR: ")


def main() -> None:
    """Retrains the present commit."""
    import argparse

    parser = argparse.ArgumentParser(prog=f"python -m {NAME} retrain", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of conf/gates.yaml")
    os.environ["DVC_ROOT"] = str(paths.project_root())  # also from inside the work tree
    print(retrain(parser.parse_args().overrides))


if __name__ == "__main__":
    stages.run(main)
