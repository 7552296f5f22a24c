"""Installs, upgrades, rolls back and uninstalls the chart with every file of values on a real API server (cluster.py)."""

import time

import yaml
from cluster import Cluster, program
from stack import Failed, skip_part, until

RELEASE = "pstn"
# As long as Helm permits.
LONGEST = "r" * 53
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
# Values with which a namespace that enforces the restricted level accepts no pod, each with a part of the message.
WRONG_PODS = [
    ("allowPrivilegeEscalation", {"securityContext": {"allowPrivilegeEscalation": True}}),
    ("runAsNonRoot", {"podSecurityContext": {"runAsNonRoot": None}}),
    ("hostPath", {"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]}),
]
# An object that the API server refuses, and a field that it does not know.
RULE = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "wrong"}}
WRONG_OBJECT = {"extraObjects": [RULE | {"spec": {"groups": [{"name": "a", "rules": [{"alert": "A", "expr": "1", "for": "often"}]}]}}]}
UNKNOWN_FIELD = {"affinity": {"nodeSelektor": {}}}


def hold(check, stack, run_helm, chart, files, many):
    binary = program()
    if binary is None:
        return skip_part("the installation of the chart", unless_ci=False)
    installed = Installed(check, Cluster(stack, binary), run_helm, chart)
    if not installed.cluster.install_operator():
        return skip_part("the installation of the chart", unless_ci=False)
    for values in files:
        installed.life(values)
    installed.tour(files)
    installed.largest(stack.work, many)
    installed.wrong(stack.work)


class Installed:
    def __init__(self, check, cluster, run_helm, chart):
        self.check, self.cluster, self.run_helm, self.chart = check, cluster, run_helm, chart

    def helm(self, what, namespace, command, *arguments):
        """Helm succeeds, and the API server has no warning."""
        ran = self.run_helm(*command.split(), RELEASE, *arguments, f"--namespace={namespace}", f"--kubeconfig={self.cluster.kubeconfig}")
        self.check(what, ran.returncode == 0 and not ran.stderr, ran.stdout, ran.stderr)
        return ran.stdout

    def namespace(self, name):
        self.cluster.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": RESTRICTED}})
        # A pod that comes before it is refused, and tried again later.
        until(f"{name} has a ServiceAccount", lambda: self.cluster.call("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default")[0] == 200)
        return name

    def life(self, values):
        """The same release from its installation to its end."""
        name = values.name.removesuffix("-values.yaml")
        namespace, source = self.namespace(f"chart-{name}"), (self.chart, f"--values={values}")
        version = self.version(namespace)
        self.helm(f"installed: {name}", namespace, "install", *source)
        manifest = self.manifest(namespace)
        missing = [path for path in self.paths(manifest, namespace) if self.cluster.call("GET", path)[0] != 200]
        self.check(f"…with its {len(manifest)} objects", manifest and not missing, *missing)
        first = self.pods(namespace)
        self.helm(f"upgraded to the same: {name}", namespace, "upgrade", *source)
        self.check("…with the same pods", self.pods(namespace) == first)
        self.helm(f"upgraded to another annotation: {name}", namespace, "upgrade", *source, "--set=podAnnotations.changed=yes")
        second = self.pods(namespace)
        self.check("…with new pods", second.keys() == first.keys() and not set(second.values()) & set(first.values()), first, second)
        self.helm(f"rolled back: {name}", namespace, "rollback", "1")
        third = self.pods(namespace)
        self.check("…with new pods", third.keys() == first.keys() and not set(third.values()) & set(second.values()), second, third)
        self.check("…and never two pods of a shard", self.most_pods(namespace, version) == 1)
        self.uninstall(name, namespace, manifest)

    def tour(self, files):
        """One release with the values of every file in turn, back to the first."""
        namespace, manifests = self.namespace("chart-tour"), []
        version = self.version(namespace)
        for command, values in zip(["install", *["upgrade"] * len(files)], files):
            self.helm(f"{command} on the tour: {values.name}", namespace, command, self.chart, f"--values={values}")
            manifests += self.manifest(namespace)
            self.pods(namespace)
        self.helm("rolled back to the start of the tour", namespace, "rollback", "1")
        self.pods(namespace)
        self.check("…and never two pods of a shard, although the number of shards changes", self.most_pods(namespace, version) == 1)
        self.uninstall("the tour", namespace, manifests)

    def uninstall(self, name, namespace, manifest):
        self.helm(f"uninstalled: {name}", namespace, "uninstall")
        paths = [*self.paths(manifest, namespace)]

        def left():
            return [path for path in paths if self.cluster.call("GET", path)[0] != 404] + [*self.listed(namespace, "/api/v1", "pods")]

        # Controllers remove the pods and release the claims.
        deadline = time.monotonic() + 60
        while left() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.check("…and nothing is left", not left(), *left())

    def largest(self, folder, values):
        """Many tenants and shards with everything that can be switched on, and the longest name: Kubernetes limits both."""
        everything = {key: {"enabled": True} for key in ("networkPolicy", "podDisruptionBudget", "serviceMonitor", "prometheusRule", "dashboards")}
        ran = self.install(self.namespace("chart-largest"), folder, values | everything | {"persistence": {"size": "1Gi"}}, LONGEST)
        self.check(f"installed: {len(values['config']['tenants'])} tenants in {values['shards']} shards", ran.returncode == 0 and not ran.stderr, ran.stderr)
        self.check("…with a pod each", len(self.pods("chart-largest")) == values["shards"])

    def wrong(self, folder):
        """What must be refused is refused: if everything were taken, the rest would prove nothing."""
        for number, (reason, values) in enumerate(WRONG_PODS):
            namespace = self.namespace(f"chart-wrong-pod-{number}")
            ran = self.install(namespace, folder, {"demo": True} | values)
            said = until("the pod is refused", lambda: self.refused(namespace))
            self.check(f"no pod with another {reason}", ran.returncode == 0 and 'violates PodSecurity "restricted' in said and reason in said, ran.stderr, said)
            self.check("…and Helm shows the warning", "would violate PodSecurity" in ran.stderr, ran.stderr)
        namespace = self.namespace("chart-wrong-object")
        ran = self.install(namespace, folder, {"demo": True} | WRONG_OBJECT)
        self.check("a rule with a wrong duration is refused", ran.returncode != 0 and "spec.groups[0].rules[0].for" in ran.stderr, ran.stderr)
        ran = self.install(self.namespace("chart-unknown-field"), folder, {"demo": True} | UNKNOWN_FIELD)
        self.check("a field that Kubernetes does not know is a warning", 'unknown field "spec.template.spec.affinity.nodeSelektor"' in ran.stderr.replace("\\", ""), ran.stderr)

    def install(self, namespace, folder, values, release=RELEASE):
        path = folder / "values.yml"
        path.write_text(yaml.safe_dump(values))
        return self.run_helm("install", release, self.chart, f"--values={path}", f"--namespace={namespace}", f"--kubeconfig={self.cluster.kubeconfig}")

    def manifest(self, namespace):
        return [document for document in yaml.safe_load_all(self.helm("…its manifest", namespace, "get manifest")) if document]

    def paths(self, manifest, namespace):
        for document in manifest:
            version, kind = document["apiVersion"], document["kind"].lower()
            plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
            yield f"{'/api/v1' if version == 'v1' else f'/apis/{version}'}/namespaces/{namespace}/{plural}/{document['metadata']['name']}"

    def listed(self, namespace, version, plural):
        """Objects by their names."""
        items = self.cluster.call("GET", f"{version}/namespaces/{namespace}/{plural}")[1]["items"]
        return {item["metadata"]["name"]: item for item in items}

    def version(self, namespace):
        """The version of the list of pods, from which most_pods counts."""
        return self.cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods")[1]["metadata"]["resourceVersion"]

    def most_pods(self, namespace, version):
        """How many pods of one shard existed at once, at most, since that version."""
        most, found = 0, {}
        for event in self.cluster.events(f"/api/v1/namespaces/{namespace}/pods", version):
            pods = found.setdefault(event["object"]["metadata"]["labels"]["teams-pstn-exporter/shard"], set())
            (pods.discard if event["type"] == "DELETED" else pods.add)(event["object"]["metadata"]["uid"])
            most = max(most, len(pods))
        if set().union(*found.values()) != {pod["metadata"]["uid"] for pod in self.listed(namespace, "/api/v1", "pods").values()}:
            raise Failed("the API server has not sent all events")
        return most

    def refused(self, namespace):
        """Why a Deployment has no pod, if the API server has refused it."""
        conditions = [condition for item in self.listed(namespace, "/apis/apps/v1", "deployments").values() for condition in item.get("status", {}).get("conditions", [])]
        return "".join(condition["message"] for condition in conditions if condition["type"] == "ReplicaFailure")

    def pods(self, namespace):
        """The pod of each Deployment by shard, when all have settled: one each, of the newest template."""

        def settled():
            if said := self.refused(namespace):
                raise Failed(f"{namespace}: {said}")
            deployments = self.listed(namespace, "/apis/apps/v1", "deployments").values()
            found = self.listed(namespace, "/api/v1", "pods").values()
            new = all(item["status"].get("observedGeneration") == item["metadata"]["generation"] and item["status"].get("updatedReplicas") == 1 for item in deployments)
            return len(found) == len(deployments) and new and {pod["metadata"]["labels"]["teams-pstn-exporter/shard"]: pod["metadata"]["uid"] for pod in found}

        return until(f"{namespace} has a pod for each Deployment", settled)
