"""What kubectl needs of an API server: objects that it reads, applies and patches, over HTTP.

A real API server is in no package that a clean machine can get, and to build one from its source takes five minutes.
The client is the real one; a test plays the controllers.
"""

import copy
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {  # API group and version -> plural, kind
    "v1": {
        "namespaces": "Namespace",
        "serviceaccounts": "ServiceAccount",
        "configmaps": "ConfigMap",
        "services": "Service",
    },
    "batch/v1": {"jobs": "Job"},
    "apps/v1": {"deployments": "Deployment", "replicasets": "ReplicaSet"},
    "autoscaling/v2": {"horizontalpodautoscalers": "HorizontalPodAutoscaler"},
    "policy/v1": {"poddisruptionbudgets": "PodDisruptionBudget"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "argoproj.io/v1alpha1": {
        "rollouts": "Rollout",
        "analysistemplates": "AnalysisTemplate",
        "analysisruns": "AnalysisRun",
    },
    "gateway.networking.k8s.io/v1": {"httproutes": "HTTPRoute"},
    "monitoring.coreos.com/v1": {"podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"},
}
PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status|scale))?"
)
Object = dict[str, Any]


@dataclass
class Cluster:
    """The objects of a cluster.

    Attributes:
        objects: Kind and name -> object.
        changed: Called with each object that was written, under the lock.
        read: Called with each object before it is read, under the lock.
        asked: What was asked of it, in the words of a Role: API group, resource, verb.
    """

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    changed: Callable[[Object], None] = lambda each: None
    read: Callable[[Object], None] = lambda each: None
    asked: set[tuple[str, str, str]] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, each: Object) -> Object:
        """Writes an object; another specification is another generation."""
        with self.lock:
            key = each["kind"], each["metadata"]["name"]
            before = self.objects.get(key, {})
            generation = before.get("metadata", {}).get("generation", 0) + (before.get("spec") != each.get("spec"))
            each["metadata"] |= {"generation": generation, "uid": "-".join(key)}
            self.objects[key] = each
            self.changed(each)
            return each


def merged(old: Any, new: Any) -> Any:
    """A strategic merge, as far as kubectl's patches of these manifests go: lists of what has a name by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        result = {name: value for name, value in old.items() if name not in new or new[name] is not None}
        for name, value in new.items():
            if value is not None and not name.startswith("$"):
                result[name] = merged(old.get(name), value)
        return result
    if (
        isinstance(old, list)
        and isinstance(new, list)
        and all(isinstance(each, dict) and "name" in each for each in new)
    ):
        named = {each["name"]: each for each in old}
        return list({**named, **{each["name"]: merged(named.get(each["name"], {}), each) for each in new}}.values())
    return new


class Handler(http.server.BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        path = urlsplit(self.path).path if parsed else ""
        if known := self.place(path):
            group, kind, parts = known
            verbs = {"GET": "get" if parts["name"] else "list", "POST": "create", "DELETE": "delete"}
            plural = next(plural for plural, each in KINDS[group].items() if each == kind)
            part = f"/{parts['part']}" if parts.groupdict().get("part") else ""
            asked = "" if group == "v1" else group.partition("/")[0], plural + part, verbs.get(self.command, "patch")
            self.cluster.asked.add(asked)
        return parsed

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        match url.path.strip("/").split("/"):
            case ["api"]:
                self.answer({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                groups = [name.split("/") for name in KINDS if "/" in name]
                listed = [
                    {
                        "name": name,
                        "versions": [{"groupVersion": f"{name}/{version}", "version": version}],
                        "preferredVersion": {"groupVersion": f"{name}/{version}", "version": version},
                    }
                    for name, version in groups
                ]
                self.answer({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})
            case ["api", "v1"] | ["apis", _, _]:
                group = url.path.strip("/").removeprefix("apis/").removeprefix("api/")
                self.answer({"kind": "APIResourceList", "groupVersion": group, "resources": self.resources(group)})
            case ["openapi", "v2"]:  # an empty message: nothing is known, so that kubectl checks nothing
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()
            case _:
                self.found(url.path, parse_qs(url.query))

    @staticmethod
    def resources(group: str) -> list[Object]:
        verbs = ["get", "list", "create", "patch", "delete"]
        return [
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": kind != "Namespace",
                "kind": kind,
                "verbs": verbs,
            }
            for plural, kind in KINDS[group].items()
        ]

    def place(self, path: str) -> tuple[str, str, re.Match[str]] | None:
        known = PATH.fullmatch(path)
        if known is None and (named := re.fullmatch(r"/api/v1/(?P<plural>namespaces)/(?P<name>[^/]+)", path)):
            return "v1", "Namespace", named
        if known is None:
            return None
        group = known["group"] or "v1"
        plural = known["plural"]
        if group == "v1" and known["namespace"] is None and plural not in KINDS["v1"]:
            return "v1", "Namespace", known
        return group, KINDS[group][plural], known

    def found(self, path: str, query: dict[str, list[str]]) -> None:
        place = re.fullmatch(r"/api/v1/namespaces/([^/]+)", path)
        cluster = self.cluster
        with cluster.lock:
            if place:
                return self.one(("Namespace", place[1]))
            known = self.place(path)
            if known is None:
                return self.missing(path)
            group, kind, parts = known
            if parts["name"]:
                return self.one((kind, parts["name"]))
            items = [each for (each_kind, _), each in cluster.objects.items() if each_kind == kind]
            for each in items:
                cluster.read(each)
            for wanted in query.get("labelSelector", []):
                key, _, value = wanted.partition("=")
                items = [each for each in items if each["metadata"].get("labels", {}).get(key) == value]
            return self.answer({"kind": f"{kind}List", "apiVersion": group, "metadata": {}, "items": items})

    def one(self, key: tuple[str, str]) -> None:
        if key not in self.cluster.objects:
            return self.missing(key[1])
        self.cluster.read(self.cluster.objects[key])
        return self.answer(self.cluster.objects[key])

    def do_POST(self) -> None:
        each = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(self.cluster.put(each), 201)

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        namespace = re.fullmatch(r"/api/v1/namespaces/([^/]+)", path)
        place = None if namespace else self.place(path)
        key = ("Namespace", namespace[1]) if namespace else (place[1], place[2]["name"]) if place else ("", "")
        with self.cluster.lock:
            if key not in self.cluster.objects:
                return self.missing(path)
            each = copy.deepcopy(self.cluster.objects[key])
            if self.headers["Content-Type"] == "application/json-patch+json":
                for change in body:
                    assert change["op"] == "replace"
                    *parents, last = change["path"].strip("/").split("/")
                    node = each
                    for parent in parents:
                        node = node[parent]
                    node[last] = change["value"]
            else:
                each = merged(each, body)
            return self.answer(self.cluster.put(each))

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        place = self.place(path)
        with self.cluster.lock:
            if place is None or self.cluster.objects.pop((place[1], place[2]["name"]), None) is None:
                return self.missing(path)
            return self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def missing(self, what: str) -> None:
        told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self.answer({**told, "message": f"{what} not found", "details": {"name": what}}, 404)

    def answer(self, content: Object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None: ...


@contextmanager
def serving(cluster: Cluster, config: Path) -> Iterator[None]:
    """Serves a cluster until the end of the block.

    Args:
        cluster: Its objects.
        config: The file for kubectl's configuration.
    """
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"cluster": cluster}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    name = {"name": "test"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{**name, "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
        "contexts": [{**name, "context": {"cluster": "test", "user": "test"}}],
        "users": [{**name, "user": {}}],
    }
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
