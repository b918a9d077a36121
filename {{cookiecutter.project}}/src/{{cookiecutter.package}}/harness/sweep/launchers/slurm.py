"""Launcher `slurm`: a SLURM array of jobs, submitted by submitit."""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from ...core.errors import UserError, one_line
from ...executors import engine
from . import process
from .process import Work

if TYPE_CHECKING:
    from submitit import Job

SQUEUE_SECONDS = 10.0  # between two calls of squeue, each of which loads the cluster's controller
UNKNOWN = "unknown to SLURM"
# A job that is PREEMPTED and queued again is PENDING when its state is read the second time.
ENDED = {
    *("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "OUT_OF_MEMORY", "NODE_FAIL"),
    *("BOOT_FAIL", "DEADLINE", "PREEMPTED", "REVOKED", UNKNOWN),
}


def launch(  # noqa: PLR0913 - the keywords are section `launcher` of the configuration
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
    """Runs workers as an array of SLURM jobs and waits for them.

    If this process is killed, its jobs run on until the study is complete or their time limit is reached.

    Args:
        work: The worker's loop; it can be pickled.
        folder: The study's folder; the jobs write their logs to its subfolder slurm/.
        workers: Number of jobs, with a worker each.
        partition: SLURM partition; None for the cluster's default.
        cpus_per_task: Processors of a worker.
        gpus_per_node: GPUs of a worker.
        mem_gb: Memory of a worker in GiB; None for the partition's default.
        timeout_min: Time limit of a worker in minutes; SLURM then ends it, and its trial is queued again.
        setup: Shell commands before each worker, for instance `module load cuda`.
        additional_parameters: Further options of sbatch, for instance {account: vision, qos: high}.

    Returns:
        A line for each lost job, with the path of its log.

    Raises:
        UserError: If submitit is missing, this machine belongs to no cluster, or the cluster rejects the jobs.
    """
    submitit = engine("submitit", "launcher")
    _refuse_no_cluster()
    _leave_job()
    executor = submitit.SlurmExecutor(folder.resolve() / "slurm")
    executor.update_parameters(
        job_name=folder.name,
        partition=partition,
        cpus_per_task=cpus_per_task,
        gpus_per_node=gpus_per_node or None,  # a cluster without GPUs rejects even 0
        mem=None if mem_gb is None else f"{mem_gb * 1024:.0f}M",
        time=timeout_min,
        setup=[f"export {name}={shlex.quote(value)}" for name, value in process.environment().items()] + setup,
        additional_parameters=additional_parameters,
        stderr_to_stdout=True,
        use_srun=False,  # since SLURM 22.05 a step of srun has one processor, however many its job has
    )
    try:
        with executor.batch():
            jobs = [executor.submit(process.run, work, Path.cwd()) for _ in range(workers)]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        raise UserError(f"launcher: the cluster rejects the job: {one_line(error)}") from error
    array = _array(jobs[0])
    print(f"SLURM job {array} with {workers} workers, logs in {folder / 'slurm'}", file=sys.stderr)
    try:
        return _losses(jobs)
    except BaseException:
        subprocess.run(["scancel", array], check=False)
        raise


def _refuse_no_cluster() -> None:
    if not all(map(shutil.which, ("sbatch", "srun", "squeue", "scancel"))):
        raise UserError("launcher=slurm: there is no sbatch on PATH: start the sweep on a login node of the cluster")


def _leave_job() -> None:
    """Removes this job's SLURM variables: workers would take themselves for this job."""
    for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
        del os.environ[name]


def _losses(jobs: "Sequence[Job[str | None]]") -> list[str]:
    """Waits for an array of jobs; returns a line for each lost one.

    The states come from squeue, not from sacct as in submitit: not every cluster has sacct's accounting database.
    """
    ends: dict[str, str | None] = {}
    without_result: set[str] = set()
    last_call = float("-inf")
    while running := [job for job in jobs if job.job_id not in ends]:
        ends |= {job.job_id: process.loss(job.result) for job in running if _has_result(job)}
        if time.monotonic() - last_call > SQUEUE_SECONDS and (states := _states(jobs[0])) is not None:
            last_call = time.monotonic()
            _record_ends([job for job in running if job.job_id not in ends], states, ends, without_result)
        if len(ends) < len(jobs):
            time.sleep(process.POLL_SECONDS)
    return [f"SLURM job {job.job_id}: {ends[job.job_id]}, see {job.paths.stdout}" for job in jobs if ends[job.job_id]]


def _record_ends(
    running: "Sequence[Job[Any]]", states: dict[str, str], ends: dict[str, str | None], without_result: set[str]
) -> None:
    """Records jobs that ended without a result or have nothing to do.

    Args:
        running: The jobs without a result.
        states: Job -> its state in SLURM.
        ends: Job -> the reason why it was lost, or None; extended in place.
        without_result: Jobs that had ended at the last call, extended in place; on a shared file system, a result may
            appear seconds after its job has ended.
    """
    for job in running:
        state = states.get(job.job_id, UNKNOWN)
        if job.job_id in without_result:
            ends[job.job_id] = state
        elif state in ENDED:
            without_result.add(job.job_id)
        elif state == "PENDING" and None in ends.values():
            # Another worker has finished, so no trial is left; this job could wait for hours in the queue.
            job.cancel(check=False)
            ends[job.job_id] = None


def _has_result(job: "Job[Any]") -> bool:
    with contextlib.suppress(OSError):
        os.utime(job.paths.folder)  # makes NFS read the folder again
    return bool(job.paths.result_pickle.exists())


def _states(job: "Job[Any]") -> dict[str, str] | None:
    """Job -> state in SLURM, or None if the controller does not answer."""
    command = ["squeue", f"--jobs={_array(job)}", "--array", "--states=all", "--noheader", "--format=%i %T"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 and "Invalid job id" not in done.stderr:
        return None
    return dict(line.split() for line in done.stdout.splitlines())


def _array(job: "Job[Any]") -> str:
    return str(job.job_id).split("_")[0]
