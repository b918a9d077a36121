"""A cluster as the target of a delivery, by kubectl: Argo's Rollout where production has one, else the Deployment."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..core import programs
from ..core.errors import UserError, one_line
from . import description, written
from .target import CLUSTER, RESTING, State, serving

OVERLAY = CLUSTER / "production"
FILE = OVERLAY / "kustomization.yaml"
NAME = "model"  # of all objects
PODS = f"app.kubernetes.io/name={NAME}"
EMPTY: State = {"stable": "stable", "share": 0, "state": "idle", "release": {}, "candidate": None}
POLL = 1.0  # seconds between two looks at a rollout
PATIENCE = 60.0  # seconds for a controller to begin
# Labels that controllers add to the pods of a template: it has none of them.
ADDED = ("rollouts-pod-template-hash", "pod-template-hash", "track")
ABORT, RETRY = (json.dumps({"status": {"abort": wish}}) for wish in (True, False))
REVISIONS = ("deployment.kubernetes.io/revision", "rollout.argoproj.io/revision")
# What a cluster may lack: API group -> what brings it, and the components that need it.
INSTALLED = {
    "argoproj.io": ("Argo Rollouts", "`canary`"),
    "gateway.networking.k8s.io": ("the Gateway API", "`canary`"),
    "monitoring.coreos.com": ("Prometheus' operator", "`monitoring`, `canary` and `alerts`"),
}
LARGEST = re.compile(r"^[^#\n]*path: /spec/maxReplicas,?\s+value: (\d+)", re.MULTILINE)
UNKNOWN = re.compile(r"""no matches for kind "\w+" in version "([^"/]+)|resource type "(rollouts|analysisruns)""")
Object = Mapping[str, Any]


def bring(commit: str, again: bool) -> int:
    """The exit status of applying production, at the end of its rollout.

    Args:
        commit: The commit; kubectl reads all files of it at once.
        again: Whether to try a release again that was rolled back.

    Raises:
        UserError: If the cluster does not answer, or no controller begins.
    """
    for each in _kustomized():
        if each["kind"] == "HorizontalPodAutoscaler":
            _bounded(each["spec"].get("minReplicas", 1), each["spec"]["maxReplicas"], str(description.PATH))
    before = state()
    _show("apply", "--kustomize", str(OVERLAY))
    if again and before["state"] == "aborted" and _has_rollout():
        _show(*_patch(RETRY))
    wanted = _wanted()
    _wait(wanted)
    ended = _follow()
    if ended["state"] == "aborted" and not _has_rollout():  # a Deployment would try for ever
        print(f"  {ended['reason']}", flush=True)
        abort()
    return 0 if serving(ended) == wanted else 1


def check(replicas: int, origin: str) -> None:
    """Returns if the autoscaler may make the pods that a release begins with, as far as the overlay says so itself.

    Args:
        replicas: Their number.
        origin: The file that says so.

    Raises:
        UserError: If it may not: a cluster refuses such an autoscaler.
    """
    for most in LARGEST.findall(written.text(FILE)) if FILE.exists() else ():
        _bounded(replicas, int(most), origin)


def _bounded(least: int, most: int, origin: str) -> None:
    if least > most:
        raise UserError(f"{FILE}: maxReplicas is {most}, {origin} says `replicas: {least}`: raise maxReplicas")


def reach(release: str, again: bool) -> None:
    """Returns if the cluster answers; it takes a release at any time.

    Args:
        release: Name of the release.
        again: Whether to try a release again that was rolled back.
    """
    state()


def state() -> State:
    """Where the rollout is; see `rollout.py status --json`."""
    objects = _objects()
    found = {each["kind"]: each for each in objects if each["metadata"]["name"] == NAME}
    if "Deployment" not in found:
        return {**EMPTY, "observed": False}
    if "Rollout" in found:
        return _of_rollout(found["Rollout"], found["Deployment"], objects)
    return _of_deployment(found["Deployment"], objects)


def abort() -> None:
    """Gives all requests to the stable release.

    Raises:
        UserError: If the cluster has none.
    """
    if _has_rollout():
        _show(*_patch(ABORT))
        _follow()
        return
    stable = serving(state())
    sets = [each for each in _sets("Deployment", _objects()) if _release(each) == stable]
    if not sets:
        raise UserError("nothing to abort: the cluster has no release that serves")
    _back(sets[-1])


def undo() -> None:
    """Gives all requests to the release before: its pods' template takes the place of the present one.

    Raises:
        UserError: If the cluster has no release before.
    """
    served, sets = serving(state()), _sets("Rollout" if _has_rollout() else "Deployment", _objects())
    places = [number for number, each in enumerate(sets) if _release(each) == served]
    # Not what was tried and aborted after it.
    earlier = [each for each in sets[: places[-1]] if _release(each) != served] if places else []
    if not earlier:
        raise UserError("nothing to undo: the cluster has no release before")
    _back(earlier[-1])


def _back(known: Object) -> None:
    """Puts the template of a ReplicaSet in the place of the Deployment's, so that its pods serve."""
    template = json.loads(json.dumps(known["spec"]["template"]))
    for label in ADDED:
        template["metadata"]["labels"].pop(label, None)
    patch = [{"op": "replace", "path": "/spec/template", "value": template}]
    _show("patch", "deployment", NAME, "--type=json", f"--patch={json.dumps(patch)}", *_namespace())
    wanted = _release(known)
    _wait(wanted)
    if serving(_follow()) != wanted:
        raise UserError(f"{wanted} did not get ready: `kubectl get pods {' '.join(_namespace())}`")


def _of_rollout(rollout: Object, deployment: Object, objects: Sequence[Object]) -> State:
    """The state of Argo's Rollout, whose pods' template is that of a Deployment."""
    status: Object = rollout.get("status", {})
    releases = {each["metadata"]["labels"].get(ADDED[0]): _release(each) for each in _sets("Rollout", objects)}
    stable, current = status.get("stableRS", ""), status.get("currentPodHash", "")
    weights = status.get("canary", {}).get("weights") or {}
    share, step = weights.get("canary", {}).get("weight", 0), status.get("currentStepIndex")
    # Its ReplicaSet may be younger than the list of them.
    candidate = releases.get(current, current) if current != stable else None
    aborted = bool(status.get("abort")) and current != stable
    observed = status.get("workloadObservedGeneration") == str(deployment["metadata"].get("generation"))
    name = "step" if share or step else "preparing"
    if aborted or (candidate is None and observed):
        name = "aborted" if aborted else "idle"
    return {
        "stable": "stable",
        "release": {"stable": releases.get(stable, ""), "canary": releases.get(current, "")},
        "candidate": None if aborted else candidate,
        "share": 0 if aborted else share * 100,
        "state": name,
        "step": step or 0,
        "steps": rollout["spec"]["strategy"]["canary"].get("steps", []),
        "reason": status.get("message", "") if name != "idle" else "",
        "refused": candidate if aborted else None,
        "verdicts": [] if name in RESTING else list(_verdicts(current)),
        "observed": observed,
    }


def _verdicts(candidate: str) -> Iterator[Object]:
    """Yields the last verdict of each gate, as the newest analyses of a candidate have it."""
    found: dict[str, int] = {}
    runs = _list("analysisruns.argoproj.io", f"{ADDED[0]}={candidate}")
    for run in sorted(runs, key=lambda each: str(each["metadata"].get("creationTimestamp"))):
        for metric in run.get("status", {}).get("metricResults", []):
            values = json.loads((metric.get("measurements") or [{}])[-1].get("value") or "[]")
            found[metric["name"]] = int(values[0]) if values else 0
    for gate, verdict in found.items():
        yield {"gate": gate, "verdict": verdict, "requests": "", "bad": "", "needed": ""}


def _of_deployment(deployment: Object, objects: Sequence[Object]) -> State:
    """The state of a rolling update: the newest pods are the candidate until all are of that kind."""
    status: Object = deployment.get("status", {})
    live = [each for each in _sets("Deployment", objects) if each.get("status", {}).get("availableReplicas")]
    wanted = _release(deployment)
    observed = status.get("observedGeneration") == deployment["metadata"].get("generation")
    ready, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    done = observed and ready == total == status.get("availableReplicas", 0) and bool(ready)
    (failure,) = [
        str(each.get("message", ""))
        for each in status.get("conditions", [])
        if each.get("reason") == "ProgressDeadlineExceeded"
    ] or [""]
    old = [_release(each) for each in live if _release(each) != wanted]
    served = wanted if done or not old else old[-1]
    failed = observed and bool(failure) and not done
    return {
        "stable": "stable",
        "release": {"stable": served if done or live else "", "canary": wanted},
        "candidate": None if done or failed else wanted,
        "share": 0 if done or failed or not total else round(10000 * ready / total),
        "state": "idle" if done else "aborted" if failed else "preparing",
        "reason": failure if failed else "",
        "refused": wanted if failed else None,
        "observed": observed,
    }


def _release(each: Object) -> str:
    """The release that an object's template of pods is of."""
    return str(each["spec"]["template"]["metadata"]["labels"].get("release", ""))


def _sets(owner: str, objects: Sequence[Object]) -> Sequence[Object]:
    """The ReplicaSets of a Deployment or a Rollout, the newest last."""

    def revision(each: Object) -> int:
        notes: Mapping[str, str] = each["metadata"].get("annotations", {})
        return max((int(value) for key, value in notes.items() if key in REVISIONS), default=0)

    owned = [each for each in objects if any(by["kind"] == owner for by in each["metadata"].get("ownerReferences", []))]
    return sorted(owned, key=revision)


def _follow() -> State:
    """The state at the end of a rollout, each change of which is a line."""
    shown = ""
    while True:
        told = state()
        line = f"{told['state']}: {told['candidate'] or serving(told) or 'nothing'}, {told['share'] / 100:g} %"
        if line != shown:
            print(f"  {line}", flush=True)
            shown = line
        if told["observed"] and told["state"] in RESTING:
            return told
        time.sleep(POLL)


def _wait(wanted: str) -> None:
    """Waits until the controller knows of a release."""
    deadline = time.monotonic() + PATIENCE
    while True:
        told = state()
        if told["observed"] and wanted in (told["candidate"], told.get("refused"), serving(told)):
            return
        if time.monotonic() > deadline:
            raise UserError(f"no controller has begun within {PATIENCE:g} s: does Argo Rollouts run in this cluster?")
        time.sleep(POLL)


@cache
def _kustomized() -> Sequence[Object]:
    """What production is."""
    import yaml

    description.require()  # kustomize would name it amid its own words
    return list(yaml.safe_load_all(_kubectl("kustomize", str(OVERLAY))))


def _has_rollout() -> bool:
    return any(each["kind"] == "Rollout" for each in _kustomized())


def _wanted() -> str:
    (found,) = (_release(each) for each in _kustomized() if each["kind"] == "Deployment")
    return found


def _namespace() -> list[str]:
    (found,) = (each["metadata"]["namespace"] for each in _kustomized() if each["kind"] == "Deployment")
    return ["--namespace", str(found)]


def _patch(content: str) -> list[str]:
    """The command that `kubectl argo rollouts` has an own program for, which not everybody has."""
    what = ["patch", "rollouts.argoproj.io", NAME, "--subresource=status", "--type=merge", f"--patch={content}"]
    return [*what, *_namespace()]


def _objects() -> Sequence[Object]:
    """What the cluster has of the service, at one time."""
    return _list("deployments,replicasets" + (",rollouts.argoproj.io" if _has_rollout() else ""), PODS)


def _list(kind: str, selector: str) -> Sequence[Object]:
    found: Object = json.loads(_kubectl("get", kind, f"--selector={selector}", "--output=json", *_namespace()))
    items: Sequence[Object] = found["items"]
    return items


def _show(*arguments: str) -> None:
    """Runs a command that changes the cluster, which is printed first."""
    print(f"+ kubectl {' '.join(arguments)}", flush=True)
    if told := _kubectl(*arguments):
        print(told, flush=True)


def _kubectl(*arguments: str) -> str:
    done = programs.complete("kubectl", *arguments)
    if done.returncode:
        raise UserError(_failure(arguments[0], done))
    return done.stdout.rstrip()


def _failure(verb: str, done: programs.Process) -> str:
    """Why kubectl has failed, and the remedy."""
    if verb == "kustomize":  # asks no cluster, and has the reason at the end of a long line
        reason = re.sub(r'^.* err="|"$', "", programs.reason(done)).replace('\\"', '"').removeprefix("error: ")
        if lost := re.findall(r"lstat (.+?): no such file or directory", reason):
            return f"{FILE} cannot be put together: {os.path.relpath(lost[-1], Path.cwd().resolve())} does not exist"
        return f"{FILE} cannot be put together: {reason if len(reason) < 300 else f'...{reason[-300:]}'}"
    if lacks := UNKNOWN.search(done.stderr):
        what, components = INSTALLED.get(lacks[1] or "argoproj.io", (lacks[1], "that need it"))
        return f"the cluster lacks {what}: install it (docs/kubernetes.md), or remove {components} from {FILE}"
    reason = one_line(programs.reason(done)).removeprefix("error: ")
    return f"`kubectl {verb}` failed: {reason} (`kubectl config current-context` names the cluster)"
