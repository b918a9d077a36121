"""Where a sweep's workers run: each way is one function, chosen by `_target_` in conf/launcher/.

A worker takes trials from the study until none is left, so that a launcher only starts some, waits, and says which it
lost. All of them see the same project folder: on a cluster, that is a shared file system.
"""

import contextlib
import functools
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ..core.errors import UserError
from ..core.paths import SOURCES

if TYPE_CHECKING:
    from submitit import Job

Work = Callable[[], None]
# As dvc.yaml has it for the stage `train`; both are read when a process starts.
ENVIRONMENT = {"PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "1"}
UNTRACKED = "ignore:resource_tracker"
LOOK_SECONDS = 1.0
SQUEUE_SECONDS = 10.0  # it asks the controller, which serves everybody's jobs
# PREEMPTED: and not queued again, or it would be PENDING at the second look.
ENDED = {
    *("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL"),
    *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", "unknown to SLURM"),
}


def local(work: Work, folder: Path) -> list[str]:
    """Runs one worker in this process.

    Args:
        work: What a worker does.
        folder: The study's.

    Returns:
        Nothing is lost: what goes wrong is raised.
    """
    work()
    return []


def joblib(work: Work, folder: Path, *, workers: PositiveInt) -> list[str]:
    """Runs workers as processes of this machine, by joblib's process engine, loky.

    Each has a loky executor of its own. In one for all of them, as `joblib.Parallel` has it, a worker that the system
    kills for want of memory takes all others with it. Workers end with this process, however it ends.

    Args:
        work: What a worker does; it can be pickled.
        folder: The study's.
        workers: How many.

    Returns:
        A line for each worker that was lost.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    # loky's tracker, a process of its own, warns of what a killed one has left behind, and cleans it up all the same.
    given = [text for text in os.environ.get("PYTHONWARNINGS", "").split(",") if text and text != UNTRACKED]
    os.environ["PYTHONWARNINGS"] = ",".join([*given, UNTRACKED])
    worker = functools.partial(_worker, work, Path.cwd(), os.getpid())
    executors = [ProcessPoolExecutor(max_workers=1, env=_environment()) for _ in range(workers)]
    try:
        futures = [executor.submit(worker) for executor in executors]
        wait(futures)
        ends = [_end(future.result) for future in futures]
    except BaseException:
        for executor in executors:
            executor.shutdown(kill_workers=True)
        raise
    for executor in executors:
        executor.shutdown(wait=False)  # TensorFlow takes two seconds to end: meanwhile the report is written
    return [f"worker {number} of {workers}: {end}" for number, end in enumerate(ends, 1) if end]


def ray(
    work: Work,
    folder: Path,
    *,
    workers: PositiveInt,
    address: Annotated[str, Field(pattern=r"^(auto|[^/]+:\d+)$")] | None,
    cpus: PositiveInt,
    gpus: NonNegativeFloat,
) -> list[str]:
    """Runs workers as Ray tasks, on as many nodes as offer the processors.

    Args:
        work: What a worker does; it can be pickled.
        folder: The study's.
        workers: How many.
        address: Of the cluster's head, `host:6379`; `auto` is the one that runs on this machine; None starts one here.
        cpus: Processors of a worker.
        gpus: GPUs of a worker; half a one lets two workers share it.

    Returns:
        A line for each worker that was lost.

    Raises:
        UserError: Where Ray is missing, the cluster cannot be joined, or one here has not the processors for a worker.
    """
    if address not in (None, "auto"):
        _refuse_unreachable(str(address))
    # Read while Ray is imported. Under `uv run` it would upload the project's folder, data included, to every node.
    os.environ |= {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    engine = _import("ray")
    # Nothing but a short text is ever stored.
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 100 << 20} if address is None else {}
    # The processes of a cluster that runs already have not inherited it; those of the other launchers have.
    storage = {name: value for name, value in os.environ.items() if name == "OPTUNA_STORAGE"}
    try:
        engine.init(
            address or "local",
            runtime_env={"env_vars": _environment() | storage},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **own,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"the cluster at {address}" if address else "a cluster here"
        raise UserError(f"launcher.address: Ray cannot reach {where}: {_one_line(error)}") from error
    try:
        _refuse_unplaceable(engine.nodes(), address, cpus, gpus)
        remote = engine.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD")(_worker)
        running = {remote.remote(work, Path.cwd()): number for number in range(1, workers + 1)}
        lost: list[str] = []
        while running:
            (ended,), _ = engine.wait(list(running))
            number, end = running.pop(ended), _end(functools.partial(engine.get, ended))
            if end:
                lost.append(f"worker {number} of {workers}: {end}")
        return lost
    finally:
        engine.shutdown()  # and with it every task that still runs


def slurm(
    work: Work,
    folder: Path,
    *,
    workers: PositiveInt,
    partition: str | None,
    cpus_per_task: PositiveInt,
    gpus_per_node: NonNegativeInt,
    mem_gb: PositiveFloat | None,
    timeout_min: PositiveInt,
    setup: list[str],
    additional_parameters: dict[str, str | int | bool],
) -> list[str]:
    """Runs workers as an array of SLURM jobs, by submitit, and waits for them.

    Jobs outlive this process where it is killed: they go on to the end of the study or to their time limit.

    Args:
        work: What a worker does; it can be pickled.
        folder: The study's; the jobs' logs go to its folder slurm/.
        workers: How many, one a job.
        partition: None takes the cluster's default.
        cpus_per_task: Processors of a worker.
        gpus_per_node: GPUs of a worker.
        mem_gb: Memory of a worker in GiB; None takes the partition's default.
        timeout_min: After so many minutes SLURM ends a worker, and the trial that it was at is lost.
        setup: Lines of shell before each worker, `module load cuda` for instance.
        additional_parameters: More options of sbatch, {account: vision, qos: high} for instance.

    Returns:
        A line for each job that was lost, with its log.

    Raises:
        UserError: Where submitit is missing, this machine is no part of a cluster, or the cluster refuses the job.
    """
    submitit = _import("submitit")
    if not all(map(shutil.which, ("sbatch", "srun", "squeue", "scancel"))):
        raise UserError("launcher=slurm: there is no sbatch on PATH: start the sweep on a login node of the cluster")
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        del os.environ[name]  # of the job that this process runs in: its workers would take themselves for that job
    executor = submitit.SlurmExecutor(folder.resolve() / "slurm")
    executor.update_parameters(
        job_name=folder.name,
        partition=partition,
        cpus_per_task=cpus_per_task,
        gpus_per_node=gpus_per_node or None,  # a cluster without GPUs refuses even none
        mem=None if mem_gb is None else f"{mem_gb * 1024:.0f}M",
        time=timeout_min,
        setup=[f"export {name}={shlex.quote(value)}" for name, value in _environment().items()] + setup,
        additional_parameters=additional_parameters,
        stderr_to_stdout=True,
        use_srun=False,  # since SLURM 22.05, a step has one processor, whatever its job has
    )
    try:
        with executor.batch():
            jobs = [executor.submit(_worker, work, Path.cwd()) for _ in range(workers)]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"launcher: the cluster refuses the job: {' '.join(str(error).split())[:300]}") from error
    array = jobs[0].job_id.split("_")[0]
    print(f"SLURM job {array} with {workers} workers, logs in {folder / 'slurm'}", file=sys.stderr)
    try:
        return _wait_for(jobs)
    except BaseException:
        subprocess.run(["scancel", array], check=False)
        raise


def threads(section: Mapping[str, Any]) -> int | None:
    """Returns how many threads a worker may compute with, so that workers do not fight for processors.

    Args:
        section: Section `launcher` of the configuration.

    Returns:
        At least 1; None for the pipeline's own default, where one worker has the machine for itself.
    """
    match section["_target_"].rpartition(".")[2]:
        case "joblib":
            # By affinity and by the quota of a container, which `os.cpu_count` knows nothing of.
            from joblib import cpu_count

            return max(1, int(cpu_count()) // int(section["workers"]))
        case "ray":
            return int(section["cpus"])
        case "slurm":
            return int(section["cpus_per_task"])
    return None


def _worker(work: Work, root: Path, parent: int | None = None) -> str | None:
    """Runs in a worker's process.

    Returns:
        None, or what has ended the worker, in one line.
    """
    os.chdir(root)
    # Ctrl-C reaches every process of the terminal, and it is the parent that stops its workers; submitit would have
    # SIGTERM ignored, so that a cancelled job goes on until SLURM kills it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        work()
    except Exception as error:  # whatever it is: the other workers go on, and the parent says it
        return _one_line(error)
    return None


def _end_with(parent: int) -> None:
    """Ends this process once its parent is gone: `kill -9` leaves it no time to tell."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(f"launcher: {error.name} is not installed here: uv pip install {package}") from error


def _environment() -> dict[str, str]:
    """Returns what a worker's environment must hold before Python starts."""
    inherited = os.environ.get("PYTHONPATH")
    return {
        "PYTHONPATH": os.pathsep.join([str(SOURCES), *([inherited] if inherited else [])]),
        **ENVIRONMENT,
        "TQDM_DISABLE": "1",
    }


def _end(result: Callable[[], str | None]) -> str | None:
    """Returns how a worker ended, as `_worker` does, also where its engine raises because it died."""
    try:
        return result()
    except Exception as error:  # each engine has its own, for a process killed, a node lost, no memory...
        return _one_line(error)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if killed := re.search(r"exit codes of the workers are {(.+?)}", text):  # loky's only telling words
        return f"ended by {killed[1]}; SIGKILL is how the system ends a process where memory runs out"
    return text[:300] if isinstance(error, UserError) else f"{type(error).__name__}: {text}"[:300]


def _refuse_unreachable(address: str) -> None:
    """Stops where nobody listens: Ray itself tries for two minutes."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise UserError(f"launcher.address: no Ray cluster answers at {address}: {error}") from error


def _refuse_unplaceable(
    nodes: Sequence[Mapping[str, Any]], address: str | None, cpus: PositiveInt, gpus: NonNegativeFloat
) -> None:
    """Says that a worker asks for more than any node has: Ray itself waits without a word."""
    offers = [node["Resources"] for node in nodes if node["Alive"]]
    if any(offer.get("CPU", 0) >= cpus and offer.get("GPU", 0) >= gpus for offer in offers):
        return
    asked = f"no node has the {cpus} CPUs and {gpus:g} GPUs that launcher.cpus and launcher.gpus ask for"
    if address is None:
        raise UserError(f"launcher: {asked}: ask for less, or set launcher.address")
    print(f"launcher: {asked}: waiting for one that joins the cluster", file=sys.stderr)


def _wait_for(jobs: "Sequence[Job[str | None]]") -> list[str]:
    """Waits for an array of jobs.

    Asks `squeue`, not `sacct` as submitit does: that needs an accounting database, which not every cluster has.
    """
    running, ends = {job.job_id: job for job in jobs}, dict[str, str | None]()
    gone, asked = set[str](), float("-inf")
    while running:
        for name, job in running.items():
            if _has_result(job):
                ends[name] = _end(job.result)
        if time.monotonic() - asked > SQUEUE_SECONDS and (states := _states(jobs[0])) is not None:
            asked = time.monotonic()
            for name in running.keys() - ends.keys():
                state = states.get(name, "unknown to SLURM")
                if name in gone:  # at the second look: a shared folder may show the result some seconds later
                    ends[name] = state
                elif state in ENDED:
                    gone.add(name)
                elif state == "PENDING" and None in ends.values():
                    # One that ended well has found nothing left to do; the queue may take hours for nothing.
                    running[name].cancel(check=False)
                    ends[name] = None
        running = {name: job for name, job in running.items() if name not in ends}
        time.sleep(LOOK_SECONDS if running else 0)
    return [f"SLURM job {job.job_id}: {ends[job.job_id]}, see {job.paths.stdout}" for job in jobs if ends[job.job_id]]


def _has_result(job: "Job[str | None]") -> bool:
    with contextlib.suppress(OSError):
        os.utime(job.paths.folder)  # so that NFS looks anew
    return bool(job.paths.result_pickle.exists())


def _states(job: "Job[str | None]") -> dict[str, str] | None:
    """Returns job -> state for those jobs of an array that SLURM knows; None where its controller does not answer."""
    array = job.job_id.split("_")[0]
    command = ["squeue", f"--jobs={array}", "--array", "--states=all", "--noheader", "--format=%i %T"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:
        return None
    return dict(line.split() for line in asked.stdout.splitlines())
