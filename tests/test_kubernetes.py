"""Manifests for a cluster: rendered by the real kustomize, held against schemas, their queries asked of a Prometheus.

There is no cluster here, and no controller: what these would do is not tested. For the verbs, `Argo` below says what
Argo Rollouts writes at each step, and the real kubectl reads it.
"""

import copy
import http.server
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apiserver
import manifests
import pytest
import yaml
from clusters import wait_until
from conftest import TEMPLATE, BakedProject, execute
from kubelet import pods
from watching import watching

DIGEST = "0123456789" * 6 + "abcd"
RELEASE: dict[str, Any] = {
    "apiVersion": "delivery/v1",
    "kind": "Release",
    "metadata": {"name": "release", "annotations": {"config.kubernetes.io/local-config": "true"}},
    "spec": {
        "release": DIGEST[:12],  # digits alone: it must stay a text
        "image": f"registry.example.org/my-experiment@sha256:{DIGEST}",
        "model": {"name": "my_experiment", "version": "7", "sha256": DIGEST[::-1]},
        "replicas": 2,
        "memory": "512Mi",
        "deadlineSeconds": 3600,
        "steps": [
            {"setWeight": 10},
            {"pause": {"duration": "2m"}},
            {"analysis": {"templates": [{"templateName": "gates"}]}},
        ],
    },
}
OVERLAYS = ("kubernetes/staging", "kubernetes/production")
POD = "Deployment model.spec.template"
CONTAINER = f"{POD}.spec.containers.0"
# Where each field of a release shows: in staging and production, then in production alone.
PLACES: dict[str, tuple[Any, set[str], set[str]]] = {
    "release": (
        "abcdefabcdef",
        {f"{POD}.metadata.labels.release", f"{CONTAINER}.env.0.value"},
        {"AnalysisTemplate gates.spec.args.0.value", "AnalysisTemplate guard.spec.args.0.value"},
    ),
    "image": (f"registry.example.org/my-experiment@sha256:{'f' * 64}", {f"{CONTAINER}.image"}, set()),
    "model": (
        {"name": "my_experiment", "version": "8", "sha256": "f" * 64},
        {f"{CONTAINER}.env.1.value"},
        set(),
    ),
    "replicas": (3, set(), {"HorizontalPodAutoscaler model.spec.minReplicas"}),  # staging is small
    "memory": ("1Gi", {f"{CONTAINER}.resources.{kind}.memory" for kind in ("limits", "requests")}, set()),
    "deadlineSeconds": (
        60,
        set(),
        {
            f"AnalysisTemplate gates.spec.metrics.{number}.{limit}"
            for number in (0, 1)
            for limit in ("count", "inconclusiveLimit", "consecutiveErrorLimit")
        },
    ),
    "steps": (  # blue-green
        [{"setWeight": 100}, {"pause": {"duration": "10m"}}],
        set(),
        {f"Rollout model.spec.strategy.canary.steps.{number}" for number in range(3)},
    ),
}


@pytest.fixture(scope="module")
def project(bake: Callable[..., BakedProject]) -> BakedProject:
    made = bake(scope="production", deploy="kubernetes")
    told = made.run(manifests.kubectl(), "kustomize", OVERLAYS[0], check=False)
    assert told.returncode != 0 and "deploy/release.yaml: no such file" in told.stderr, "before the first release"
    assert "deploy/release.yaml: no such file" in made.read("docs/kubernetes.md")
    release(made)
    return made


def release(project: BakedProject, **changes: Any) -> None:
    """Writes a release.yaml, as `make release` does."""
    made = copy.deepcopy(RELEASE)
    made["spec"].update(changes)
    (project.path / "deploy/release.yaml").write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")


def rendered(project: BakedProject, overlay: str) -> dict[str, dict[str, Any]]:
    """The objects of an overlay, in their order, by kind and name."""
    objects = manifests.rendered(project.path, overlay)
    # A ConfigMap has the digest of its content behind its name.
    return {f"{each['kind']} {re.sub('-[a-z0-9]{10}$', '', each['metadata']['name'])}": each for each in objects}


@pytest.fixture(scope="module")
def overlays(project: BakedProject) -> dict[str, dict[str, dict[str, Any]]]:
    """What each overlay applies."""
    return {overlay: rendered(project, overlay) for overlay in OVERLAYS}


@pytest.fixture(scope="module")
def everything(project: BakedProject) -> dict[str, dict[str, Any]]:
    """What production applies with all components."""
    file = project.path / OVERLAYS[1] / "kustomization.yaml"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("# - ../", "- ../"), encoding="utf-8")
    try:
        return rendered(project, OVERLAYS[1])
    finally:
        file.write_text(before, encoding="utf-8")


@pytest.fixture(scope="module")
def work(project: BakedProject) -> dict[str, list[dict[str, Any]]]:
    """What each kind of work applies."""
    folders = {file.parent for file in (project.path / "kubernetes/work").glob("*/kustomization.yaml")}
    kinds = sorted(folder.name for folder in folders if folder.name != "settings")
    found = {kind: manifests.rendered(project.path, f"kubernetes/work/{kind}") for kind in kinds}
    for kind in kinds:
        file = project.path / "kubernetes/work" / kind / "kustomization.yaml"
        before = file.read_text(encoding="utf-8")
        if "components/gpu" in before:
            file.write_text(before.replace("# - ../", "- ../"), encoding="utf-8")
            found[f"{kind} on GPUs"] = manifests.rendered(project.path, f"kubernetes/work/{kind}")
            file.write_text(before, encoding="utf-8")
    return found


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each value with its path; the steps of a rollout as a whole."""
    if isinstance(node, dict | list) and ".steps." not in path:
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for name, value in pairs:
            yield from leaves(value, f"{path}.{name}")
    else:
        yield path, node


def flat(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return dict(leaf for name, each in objects.items() for leaf in leaves(each, name))


@pytest.mark.parametrize("field", PLACES)
def test_a_field_of_the_release_shows_in_its_places_alone(
    project: BakedProject, overlays: dict[str, dict[str, dict[str, Any]]], field: str
) -> None:
    value, everywhere, canaries = PLACES[field]
    release(project, **{field: value})
    try:
        for overlay, places in zip(OVERLAYS, (everywhere, everywhere | canaries), strict=True):
            before, after = flat(overlays[overlay]), flat(rendered(project, overlay))
            assert {path for path in before | after if before.get(path) != after.get(path)} == places
    finally:
        release(project)


def test_the_release_stands_in_one_file(project: BakedProject) -> None:
    for value in (DIGEST, DIGEST[::-1]):
        found = [file for file in project.files() if value in (project.path / file).read_text(errors="replace")]
        assert found == ["deploy/release.yaml"]
    assert yaml.safe_load(project.read("deploy/release.yaml")) == RELEASE


def test_the_cluster_gets_what_the_release_says(overlays: dict[str, dict[str, dict[str, Any]]]) -> None:
    for overlay, objects in overlays.items():
        assert {each["metadata"].get("namespace") for each in objects.values()} == {
            None,  # of the namespace itself
            f"my-experiment-{Path(overlay).name}",
        }
        assert "Release release" not in objects
        (container,) = objects["Deployment model"]["spec"]["template"]["spec"]["containers"]
        assert container["image"] == RELEASE["spec"]["image"]
        told = {each["name"]: each["value"] for each in container["env"]}
        assert told == {"SERVICE_RELEASE": DIGEST[:12], "SERVICE_MODEL_SHA256": DIGEST[::-1]}
        assert container["resources"]["limits"] == {"memory": "512Mi"}
        assert '"-"' not in json.dumps(objects), "nothing was copied there"
    staging, production = overlays.values()
    plain = {"v1", "apps/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1"}
    assert {each["apiVersion"] for each in staging.values()} == plain
    assert {each["apiVersion"] for each in production.values()} == plain | {
        "argoproj.io/v1alpha1",
        "gateway.networking.k8s.io/v1",
        "monitoring.coreos.com/v1",
    }
    rollout = production["Rollout model"]["spec"]
    assert rollout["strategy"]["canary"]["steps"] == RELEASE["spec"]["steps"]
    assert production["HorizontalPodAutoscaler model"]["spec"]["scaleTargetRef"]["kind"] == "Rollout"
    # The autoscaler owns the number of pods: what is applied must not set it back.
    assert "replicas" not in rollout and "replicas" not in production["Deployment model"]["spec"]
    # A rollout begins when the pods' template has changed: what it reads then must be there.
    order = list(production)
    assert order[-1] == "Deployment model" and order.index("AnalysisTemplate guard") < order.index("Rollout model")


def test_without_operators_nothing_of_them_is_left(project: BakedProject) -> None:
    """What the overlay of production says to remove."""
    file = project.path / OVERLAYS[1] / "kustomization.yaml"
    before = file.read_text(encoding="utf-8")
    comment = before.partition("namespace:")[0]
    content = yaml.safe_load(before)
    for name in ("monitoring", "canary", "alerts"):
        assert f"`{name}`" in comment
        content["components"].remove(f"../components/{name}")
    kinds = {"HTTPRoute", "AnalysisTemplate"}
    assert all(kind in comment for kind in kinds)
    content["patches"] = [each for each in content["patches"] if each["target"]["kind"] not in kinds]
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        left = rendered(project, OVERLAYS[1])
    finally:
        file.write_text(before, encoding="utf-8")
    assert {each["apiVersion"].rpartition("/")[0] for each in left.values()} == {
        "",
        "apps",
        "autoscaling",
        "policy",
        "networking.k8s.io",
    }


def test_an_autoscaler_may_make_what_a_release_begins_with(project: BakedProject) -> None:
    """Any other one is refused by a cluster, so that what is committed is, before."""
    kind = "HorizontalPodAutoscaler model"
    for replicas in (1, 10):
        release(project, replicas=replicas)
        for overlay in OVERLAYS:
            bounds = rendered(project, overlay)[kind]["spec"]
            assert bounds["minReplicas"] <= bounds["maxReplicas"]
    release(project, replicas=11)
    env = {"PYTHONPATH": "src"}
    told = project.run("python", "-m", "my_experiment", "delivery", env=env, check=False)
    release(project)
    reason = "maxReplicas is 10, deploy/release.yaml says `replicas: 11`: raise maxReplicas\n"
    assert told.stderr == f"error: kubernetes/production/kustomization.yaml: {reason}"


def test_the_alerts_of_a_cluster_are_those_of_monitoring(overlays: dict[str, dict[str, dict[str, Any]]]) -> None:
    staging, production = overlays.values()
    assert not any(name.startswith("PrometheusRule") for name in staging)
    alerts = production["PrometheusRule alerts"]["spec"]
    assert alerts == yaml.safe_load((TEMPLATE / "monitoring/rules.yml").read_text(encoding="utf-8"))
    # One Prometheus evaluates both.
    gates = production["PrometheusRule gates"]["spec"]
    recorded = [
        {rule.get("record") for group in each["groups"] for rule in group["rules"]} - {None} for each in (alerts, gates)
    ]
    assert all(recorded) and not set.intersection(*recorded)


def test_names_agree(everything: dict[str, dict[str, Any]]) -> None:
    """Names that Kubernetes would only miss in the pods, or in silence."""
    deployment = everything["Deployment model"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    (config,) = container["envFrom"]
    assert config["configMapRef"]["name"] == everything["ConfigMap model"]["metadata"]["name"]
    labels = deployment["template"]["metadata"]["labels"].items()
    for name in ("Service model", "Service model-canary"):
        assert everything[name]["spec"]["selector"].items() <= labels
    for name in ("PodDisruptionBudget model", "PodMonitor model", "Rollout model", "Deployment model"):
        assert everything[name]["spec"]["selector"]["matchLabels"].items() <= labels
    assert everything["NetworkPolicy model"]["spec"]["podSelector"]["matchLabels"].items() <= labels
    canary = everything["Rollout model"]["spec"]["strategy"]["canary"]
    backends = everything["HTTPRoute model"]["spec"]["rules"][0]["backendRefs"]
    services = canary["stableService"], canary["canaryService"]
    assert [(each["name"], each["weight"]) for each in backends] == [*zip(services, (100, 0), strict=True)]
    for each in backends:
        assert each["port"] == everything[f"Service {each['name']}"]["spec"]["ports"][0]["port"]
    assert canary["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"] == {
        "httpRoute": "model",
        "namespace": everything["HTTPRoute model"]["metadata"]["namespace"],
    }
    told = [each["name"] for each in container["env"]]
    assert told.index("POD") < told.index("SERVICE_AUDIT"), "a variable knows those before it"
    (place,) = (each["value"] for each in container["env"] if each["name"] == "SERVICE_AUDIT")
    assert place == "/srv/model/audit/$(POD)", "each pod has a chain: a volume may have no locks"
    used = [each["templateName"] for each in canary["analysis"]["templates"]]
    used += [
        each["templateName"] for step in canary["steps"] if "analysis" in step for each in step["analysis"]["templates"]
    ]
    assert {f"AnalysisTemplate {name}" for name in used} <= everything.keys()
    assert all(
        container[probe]["httpGet"]["scheme"] == "HTTPS"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
    )
    # 5 seconds until proxies know that it ends, then those of docs/image.md.
    assert pod["terminationGracePeriodSeconds"] == 5 + 15


def test_schemas_of_kubernetes_and_of_controllers(
    project: BakedProject,
    overlays: dict[str, dict[str, dict[str, Any]]],
    everything: dict[str, dict[str, Any]],
    work: dict[str, list[dict[str, Any]]],
) -> None:
    objects = [each for found in (*overlays.values(), everything) for each in found.values()]
    objects += manifests.rendered(project.path, "kubernetes/access")
    manifests.check([*objects, *(each for found in work.values() for each in found)])
    wrong = copy.deepcopy(everything["Rollout model"])
    wrong["spec"]["strategy"]["canary"]["trafficRouting"]["plugin"] = {}
    with pytest.raises(AssertionError, match="'\"plugin\"' does not exist"):
        manifests.check([wrong])
    wrong = copy.deepcopy(next(each for each in work["train-workers"] if each["kind"] == "TFJob"))
    wrong["spec"]["tfReplicaSpecs"]["Worker"]["replica"] = 2
    with pytest.raises(AssertionError, match="KubeflowOrgV1ReplicaSpec has no field replica"):
        manifests.check([wrong], [])


def test_the_examples_of_the_page_are_objects_of_their_kind(project: BakedProject) -> None:
    blocks = re.findall(r"(?ms)^```text\n(apiVersion: .*?)^```", project.read("docs/gitops.md"))
    objects = [each for block in blocks for each in yaml.safe_load_all(block)]
    kinds = [each["kind"] for each in objects]
    assert kinds == ["Application", "GitRepository", "Kustomization", "InferenceService", "ScaledObject"]
    manifests.check(
        [each for each in objects if each["kind"] != "InferenceService"]
    )  # KServe's schema is not to be had
    (path,) = (
        {each["spec"].get("path", each["spec"].get("source", {}).get("path")) for each in objects}
        - {None}
        - {"./kubernetes/production"}
    )
    assert (project.path / path / "kustomization.yaml").is_file()


def test_work_is_restricted_and_names_agree(work: dict[str, list[dict[str, Any]]]) -> None:
    (claim,) = (each["metadata"]["name"] for each in work["common"] if each["kind"] == "PersistentVolumeClaim")
    (account,) = (each["metadata"]["name"] for each in work["common"] if each["kind"] == "ServiceAccount")
    for kind, objects in work.items():
        assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in objects} == {
            "my-experiment-work"
        }
        maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
        found = list(pods(objects))
        assert found or kind == "common"
        gpus = [each["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for each in found]
        assert gpus.count("1") == ("GPU" in kind), "not for the head of a Ray cluster"
        for pod in found:
            assert pod["serviceAccountName"] == account and pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            (container,) = pod["containers"]
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["image"].startswith("registry.example.org/my-experiment-work@sha256:")
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
            assert {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each} <= maps
            assert {
                each["configMapRef"]["name"] for each in container.get("envFrom", ()) if "configMapRef" in each
            } <= maps
            claims = {each.get("persistentVolumeClaim", {}).get("claimName") for each in pod["volumes"]}
            assert claims <= {claim, None}


def test_work_is_replaced_the_first_time_and_again(project: BakedProject, tmp_path: Path) -> None:
    config = tmp_path / "config"
    cluster = apiserver.Cluster()
    command = ("kubectl", "replace", "--force", "-k", "kubernetes/work/train")
    assert f"{' '.join(command)}\n" in project.read("docs/cluster-work.md")
    with apiserver.serving(cluster, config):
        for deleted in (0, 3):
            told = execute(manifests.kubectl(), *command[1:], cwd=project.path, env={"KUBECONFIG": str(config)}).stdout
            assert (told.count(" deleted"), told.count(" replaced")) == (deleted, 3), told
    assert cluster.objects["Job", "train"]["metadata"]["namespace"] == "my-experiment-work"


def test_checkov_has_nothing_against_them(
    overlays: dict[str, dict[str, dict[str, Any]]],
    everything: dict[str, dict[str, Any]],
    work: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    found = [overlays[OVERLAYS[0]].values(), everything.values(), *work.values()]
    for number, objects in enumerate(found):
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump_all(objects), encoding="utf-8")
    # A limit of the processor stops a process that has work to do while the node has time. DVC and MLflow take
    # credentials from the environment.
    assert manifests.checkov(tmp_path, ["CKV_K8S_11", "CKV_K8S_35"]) == []


class Pods(http.server.BaseHTTPRequestHandler):
    """Two pods with the counters of a service: each scrape finds hundreds of requests more, all of them good.

    (That services have these counters, and what the gates say of them, is tested elsewhere.)
    """

    scrapes = 0

    def do_GET(self) -> None:
        type(self).scrapes += 1
        asked = 400 * self.scrapes
        path = 'endpoint="/predict"'
        lines = [
            f'bentoml_service_request_total{{{path},http_response_code="200"}} {asked}',
            f"bentoml_service_request_duration_seconds_count{{{path}}} {asked}",
            f'bentoml_service_request_duration_seconds_bucket{{{path},le="0.1"}} {asked}',
            *(f'model_rows_total{{kind="answer",column="answer",bin="0{n} x"}} {asked / 2}' for n in (1, 2)),
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("".join(f"{line}\n" for line in lines).encode())

    def log_message(self, format: str, *args: Any) -> None: ...


def holds(condition: str, result: list[float]) -> bool:
    """Whether a condition of Argo's holds, in words that its language and Python share."""
    return bool(eval(condition.replace("&&", "and"), {"len": len, "result": result}))


def test_each_query_of_the_analysis_finds_its_verdict(
    project: BakedProject, overlays: dict[str, dict[str, dict[str, Any]]], tools: Path, tmp_path: Path
) -> None:
    production = overlays[OVERLAYS[1]]
    monitoring, folder = tmp_path / "monitoring", tmp_path / "run"
    monitoring.mkdir()
    folder.mkdir()
    for name in ("prometheus.yml", "alertmanager.yml"):
        (monitoring / name).write_text(project.read(f"monitoring/{name}"), encoding="utf-8")
    rules = yaml.safe_dump(production["PrometheusRule gates"]["spec"])
    (monitoring / "rules.yml").write_text(rules, encoding="utf-8")
    monitor = production["PodMonitor model"]["spec"]
    labels = production["Deployment model"]["spec"]["template"]["metadata"]["labels"]
    namespace = production["Deployment model"]["metadata"]["namespace"]
    canary = production["Rollout model"]["spec"]["strategy"]["canary"]
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Pod", (Pods,), {})) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    targets = []
    for server, track in zip(servers, ("canary", "stable"), strict=True):
        # What Prometheus' operator makes of a pod.
        pod = {**labels, **canary[f"{track}Metadata"]["labels"]}
        found = {name: pod[name] for name in monitor["podTargetLabels"]}
        job = pod[monitor["jobLabel"]]
        targets.append((f"127.0.0.1:{server.server_address[1]}", {**found, "job": job, "namespace": namespace}))
    try:
        with watching(folder, tools, targets, monitoring) as watch:
            for name in ("gates", "guard"):
                template = production[f"AnalysisTemplate {name}"]["spec"]
                arguments = {each["name"]: each["value"] for each in template["args"]}
                for metric in template["metrics"]:
                    query = metric["provider"]["prometheus"]["query"]
                    for key, value in arguments.items():
                        query = query.replace(f"{{{{args.{key}}}}}", value)
                    assert "{{" not in query

                    def decided(query: str = query) -> bool:
                        return watch.value(query) == 1

                    wait_until(decided, f"{name} {metric['name']}: {watch.query('rollout:verdict')}")
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_the_conditions_of_the_analysis_know_three_verdicts_and_none(
    overlays: dict[str, dict[str, dict[str, Any]]],
) -> None:
    production = overlays[OVERLAYS[1]]
    nothing: list[float] = []
    rules = production["PrometheusRule gates"]["spec"]["groups"][0]["rules"]
    gates = {each["labels"]["gate"] for each in rules if "gate" in each.get("labels", {})}
    assert {metric["name"] for metric in production["AnalysisTemplate guard"]["spec"]["metrics"]} == gates
    for metric in production["AnalysisTemplate guard"]["spec"]["metrics"]:
        assert "successCondition" not in metric
        told = [holds(metric["failureCondition"], found) for found in ([-1.0], [0.0], [1.0], [float("nan")], nothing)]
        assert told == [True, False, False, False, False]
    for metric in production["AnalysisTemplate gates"]["spec"]["metrics"]:
        told = [holds(metric["successCondition"], found) for found in ([-1.0], [0.0], [1.0], [float("nan")], nothing)]
        assert told == [False, False, True, False, False]
        # What is undecided is neither, and may be so until the deadline; then it has failed (see the file).
        assert (metric["interval"], metric["failureLimit"], metric["consecutiveSuccessLimit"]) == ("1s", -1, 1)


VERBS = """
import sys
from my_experiment.harness.delivery import abort, kubernetes, status, target, undo
kubernetes.POLL = 0.05
match sys.argv[1]:
    case "bring":
        print("exit", kubernetes.bring("HEAD", again="again" in sys.argv))
    case "status":
        known = status.Known(None, None, "not asked", None, True)
        print(*status.lines(known, target.chosen().state()), sep="\\n")
    case verb:
        print({"abort": abort.abort, "undo": undo.undo}[verb]())
"""
HASH = "rollouts-pod-template-hash"


class Argo:
    """What Argo Rollouts writes: its status after each look of kubectl is the next one of a rollout, or the last."""

    def __init__(self) -> None:
        self.cluster = apiserver.Cluster(changed=self.changed, read=self.read)
        self.coming: list[dict[str, Any]] = []
        self.ends = "promoted"

    def changed(self, each: dict[str, Any]) -> None:
        if each["kind"] == "Rollout" and each.get("status", {}).get("abort") is True and not self.aborted(each):
            self.coming = [{**each["status"], "canary": {}, "message": "RolloutAborted: aborted by hand"}]
        elif each["kind"] == "Deployment":
            self.update(each)

    @staticmethod
    def aborted(rollout: dict[str, Any]) -> bool:
        return str(rollout["status"].get("message", "")).startswith("RolloutAborted")

    def update(self, deployment: dict[str, Any]) -> None:
        """Begins a rollout, or goes back without steps."""
        rollout = self.cluster.objects["Rollout", "model"]
        before = rollout.get("status", {})
        template = copy.deepcopy(deployment["spec"]["template"])
        release = template["metadata"]["labels"]["release"]
        name = f"hash-{release}"
        generation = str(deployment["metadata"]["generation"])
        known = self.cluster.objects.get(("ReplicaSet", name))
        if known:  # the template is the same, so that the ReplicaSet is
            labels = known["spec"]["template"]["metadata"]["labels"]
            assert labels == {**template["metadata"]["labels"], HASH: name, "track": labels["track"]}
        template["metadata"]["labels"] |= {HASH: name, "track": "canary"}
        revision = 1 + sum(kind == "ReplicaSet" for kind, _ in self.cluster.objects) + bool(known)
        labels = {"app.kubernetes.io/name": "model", HASH: name}
        metadata = {
            "name": name,
            "labels": labels,
            "annotations": {"rollout.argoproj.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Rollout", "name": "model"}],
        }
        made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {"template": template}}
        self.cluster.objects["ReplicaSet", name] = made
        stable = before.get("stableRS", name)
        status = {"stableRS": stable, "currentPodHash": name, "workloadObservedGeneration": generation}
        promoted = {**status, "stableRS": name, "phase": "Healthy"}
        self.coming = [promoted]
        if name != stable and not known:
            steps = [{**status, "currentStepIndex": 0, "message": "more replicas need to be updated"}]
            steps += [
                {**status, "currentStepIndex": at, "canary": {"weights": {"canary": {"weight": 10}}}} for at in (1, 2)
            ]
            reason = 'RolloutAborted: Metric "errors" assessed Failed due to failed (1) > failureLimit (0)'
            bad = {**status, "abort": True, "phase": "Degraded", "message": reason}
            self.coming = [*steps, *{"promoted": [promoted], "aborted": [bad], "stays": []}[self.ends]]

    def read(self, each: dict[str, Any]) -> None:
        if each["kind"] == "Rollout" and self.coming:
            each["status"] = self.coming.pop(0)


def run_verb(project: BakedProject, config: Path, *arguments: str, check: bool = True) -> str:
    path = f"{manifests.kubectl().parent}:{project.path / '.venv/bin'}:{os.environ['PATH']}"
    env = {"KUBECONFIG": str(config), "PYTHONPATH": "src", "PATH": path}
    done = project.run("python", "-c", VERBS, *arguments, env=env, check=check)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("group", "verb", "lacks"),
    [
        ("argoproj.io/v1alpha1", "status", "Argo Rollouts: install it (docs/kubernetes.md), or remove `canary` from "),
        ("monitoring.coreos.com/v1", "bring", "Prometheus' operator: install it"),
    ],
)
def test_what_a_cluster_lacks_is_named(
    project: BakedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, verb: str, lacks: str
) -> None:
    monkeypatch.delitem(apiserver.KINDS, group)
    with apiserver.serving(apiserver.Cluster(), tmp_path / "config"):
        told = run_verb(project, tmp_path / "config", verb, check=False)
    assert f"UserError: the cluster lacks {lacks}" in told


def test_what_kustomize_says_is_one_line_with_its_reason(project: BakedProject, tmp_path: Path) -> None:
    file = project.path / OVERLAYS[1] / "kustomization.yaml"
    before = file.read_text(encoding="utf-8")
    try:
        for old, new, reason in (
            ("components/alerts", "components/alertz", "kubernetes/components/alertz does not exist"),
            ("components:", "components: x:", "invalid Kustomization: "),
        ):
            file.write_text(before.replace(old, new), encoding="utf-8")
            told = run_verb(project, tmp_path / "config", "status", check=False)
            assert f"UserError: {OVERLAYS[1]}/kustomization.yaml cannot be put together: {reason}" in told
    finally:
        file.write_text(before, encoding="utf-8")


def test_verbs_without_canaries(project: BakedProject, tmp_path: Path) -> None:
    """A Deployment, whose controller is played: pods of a bad release never get ready."""
    config, bad = tmp_path / "config", "b" * 12

    def controller(each: dict[str, Any]) -> None:
        if each["kind"] != "Deployment":
            return
        template = copy.deepcopy(each["spec"]["template"])
        name = template["metadata"]["labels"]["release"]
        revision = str(1 + sum(kind == "ReplicaSet" for kind, _ in cluster.objects))
        metadata = {
            "name": name,
            "labels": template["metadata"]["labels"] | {"pod-template-hash": name},
            "annotations": {"deployment.kubernetes.io/revision": revision},
            "ownerReferences": [{"kind": "Deployment", "name": "model", "uid": "Deployment-model", "controller": True}],
        }
        made = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": {"template": template}}
        cluster.objects["ReplicaSet", name] = {**made, "status": {"availableReplicas": 0 if name == bad else 2}}
        each["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = revision
        late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "too late"}]
        each["status"] = {
            "observedGeneration": each["metadata"]["generation"],
            "replicas": 3 if name == bad else 2,
            "updatedReplicas": 1 if name == bad else 2,
            "availableReplicas": 2,
            "conditions": late if name == bad else [],
        }

    cluster = apiserver.Cluster(changed=controller)
    overlay = project.path / OVERLAYS[1] / "kustomization.yaml"
    before = overlay.read_text(encoding="utf-8")
    overlay.write_text(project.read(f"{OVERLAYS[0]}/kustomization.yaml"), encoding="utf-8")
    try:
        with apiserver.serving(cluster, config):
            for name, code in (("a", 0), ("b", 1)):
                image = f"registry.example.org/my-experiment@sha256:{name * 64}"
                release(project, release=name * 12, image=image)
                told = run_verb(project, config, "bring")
                assert told.splitlines()[-1] == f"exit {code}"
            assert "too late\n+ kubectl patch deployment model" in told
            assert re.search(r"serves +a{12} \(stable\)", run_verb(project, config, "status"))
    finally:
        overlay.write_text(before, encoding="utf-8")
        release(project)


def test_verbs_by_kubectl(project: BakedProject, tmp_path: Path) -> None:
    argo = Argo()
    config = tmp_path / "config"
    releases = {name: name * 12 for name in "abc"}

    def verb(*arguments: str, check: bool = True) -> str:
        return run_verb(project, config, *arguments, check=check)

    def bring(name: str, *arguments: str) -> str:
        image = f"registry.example.org/my-experiment@sha256:{name * 64}"
        release(project, release=releases[name], image=image)
        project.run("git", "add", "deploy/release.yaml")
        project.run("git", "commit", "--quiet", "--no-verify", "--allow-empty", "--message", f"Release {name}")
        return verb("bring", *arguments)

    try:
        with apiserver.serving(argo.cluster, config):
            told = bring("a")
            assert "+ kubectl apply --kustomize kubernetes/production" in told
            assert "deployment.apps/model created" in told and told.endswith(f"idle: {releases['a']}, 0 %\nexit 0\n")
            assert re.search(rf"serves +{releases['a']} \(stable\)", verb("status"))
            told = bring("b")
            assert f"step: {releases['b']}, 10 %\n  idle: {releases['b']}, 0 %\nexit 0\n" in told

            argo.ends = "aborted"
            told = bring("c")
            assert told.endswith(f"aborted: {releases['b']}, 0 %\nexit 1\n")
            told = verb("status")
            assert f"serves        {releases['b']}" in told
            assert 'state         aborted: RolloutAborted: Metric "errors" assessed Failed' in told

            # Not the one that was aborted, but the one before.
            told = verb("undo")
            assert f"{releases['a']} serves all requests instead of {releases['b']}; next" in told
            assert yaml.safe_load(project.read("deploy/release.yaml"))["spec"]["release"] == releases["a"]

            argo.ends = "stays"
            argo.cluster.objects.pop(("ReplicaSet", f"hash-{releases['c']}"))
            image = f"registry.example.org/my-experiment@sha256:{'c' * 64}"
            release(project, release=releases["c"], image=image)
            argo.cluster.objects["AnalysisRun", "guard"] = {
                "apiVersion": "argoproj.io/v1alpha1",
                "kind": "AnalysisRun",
                "metadata": {"name": "guard", "labels": {HASH: f"hash-{releases['c']}"}},
                "status": {
                    "metricResults": [
                        {"name": "errors", "measurements": [{"value": "[0]"}, {"value": "[1]"}]},
                        {"name": "shift", "measurements": [{"value": "[]"}]},
                    ]
                },
            }
            execute(
                manifests.kubectl(),
                "apply",
                "--kustomize",
                "kubernetes/production",
                cwd=project.path,
                env={"KUBECONFIG": str(config)},
            )
            for _ in range(3):
                told = verb("status")
            assert f"candidate     {releases['c']}, 10.0% of the requests, step 3 of 3" in told
            assert re.search(r"errors +good", told) and re.search(r"shift +undecided", told)
            told = verb("abort")
            assert "+ kubectl patch rollouts.argoproj.io model --subresource=status --type=merge" in told
            assert f"the rollout of {releases['c']} is aborted: {releases['a']} serves all requests" in told
            # The role of CI allows what was asked, and nothing else. An administrator makes the namespace.
            asked = argo.cluster.asked - {("", "namespaces", verb) for verb in ("create", "patch")}
            allowed = {
                (group, resource, verb)
                for each in manifests.rendered(project.path, "kubernetes/access")
                for rule in each.get("rules", ())
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
            }
            claims = {("", "persistentvolumeclaims", verb) for verb in ("get", "create", "patch")}  # of `log`
            assert asked <= allowed and claims <= allowed
            # No release has changed the other objects; an update of the template does.
            assert {verb for _, _, verb in allowed - claims - asked} == {"patch"}
        told = verb("status", check=False)
        assert "`kubectl get` failed: The connection to the server" in told
    finally:
        release(project)
