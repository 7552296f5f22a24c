"""What is promised of the manifests and no schema knows."""

import re

RELEASE, NAMESPACE = "pstn", "monitoring"


def hold(check, rendered):
    for name, documents in rendered.items():
        for pod in pods(documents):
            check(f"{name}: the pod is restricted", not unrestricted(pod), *unrestricted(pod))
        check(f"{name}: one pod a Deployment, and never two", all(alone(document) for document in documents if document["kind"] == "Deployment"))
        wrong = [document["metadata"]["name"] for document in documents if not document["metadata"]["name"].startswith((RELEASE, "teams-cost"))]
        check(f"{name}: everything has the release's name", not wrong, *wrong)
        check(f"{name}: the Service and the policies choose the pods, and nothing else", chooses(documents))
    targets(check, rendered)
    names = {name: {document["metadata"]["name"] for document in documents if document["kind"] == "Deployment"} for name, documents in rendered.items()}
    check("shard 0 has its name with any number of shards, so that it is replaced and not added", names["default"] < names["persistence"] < names["shards"], names)
    identity(check, one(rendered["workload-identity"], "ServiceAccount"), rendered["workload-identity"])
    secrets(check, rendered)
    network(check, rendered)
    persistence(check, rendered)


def pods(documents):
    return [document["spec"]["template"]["spec"] for document in documents if document["kind"] == "Deployment"]


def one(documents, kind):
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def unrestricted(pod):
    """What the restricted profile of the Pod Security Standards would mind, and what we add to it."""
    (container,) = pod["containers"]
    inner, outer = container["securityContext"], pod["securityContext"]
    volumes = {key for volume in pod.get("volumes", []) for key in volume if key != "name"}
    rules = {
        "not as root": outer["runAsNonRoot"] is True and outer.get("runAsUser", 65534) > 0,
        "no way up": inner["allowPrivilegeEscalation"] is False and not inner.get("privileged"),
        "no capability": inner["capabilities"] == {"drop": ["ALL"]},
        "seccomp": outer["seccompProfile"] == {"type": "RuntimeDefault"},
        "nothing is written but state": inner["readOnlyRootFilesystem"] is True and writable(container) <= {"state"},
        "nothing of the host": not pod.get("hostNetwork") and not pod.get("hostPID") and "hostPath" not in volumes,
        "volumes of the profile": volumes <= {"configMap", "secret", "projected", "emptyDir", "csi", "persistentVolumeClaim"},
        "no token of Kubernetes'": pod["automountServiceAccountToken"] is False,
        "a limit of memory": "memory" in container["resources"]["limits"] and "cpu" not in container["resources"]["limits"],
        "no secret on the command line": not any(word in argument for argument in container["args"] for word in ("secret=", "password", "not-a-secret")),
    }
    return [rule for rule, holds in rules.items() if not holds]


def writable(container):
    return {mount["name"] for mount in container.get("volumeMounts", []) if not mount.get("readOnly")}


def alone(deployment):
    return deployment["spec"]["replicas"] == 1 and deployment["spec"]["strategy"] == {"type": "Recreate"}


def chooses(documents):
    templates = [document["spec"]["template"] for document in documents if document["kind"] == "Deployment"]
    selectors = []
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            selectors.append(spec["selector"])
        elif document["kind"] in ("PodMonitor", "PodDisruptionBudget"):
            selectors.append(spec["selector"]["matchLabels"])
        elif document["kind"] == "NetworkPolicy":
            selectors.append(spec["podSelector"]["matchLabels"])
        elif document["kind"] == "ServiceMonitor":
            # It chooses Services.
            selector = spec["selector"]["matchLabels"]
            if not selector.items() <= one(documents, "Service")["metadata"]["labels"].items():
                return False
    # Each Deployment its own pod, and none of the others.
    own = [document["spec"]["selector"]["matchLabels"] for document in documents if document["kind"] == "Deployment"]
    each = all([matches(selector, template) for template in templates].count(True) == 1 for selector in own)
    return each and all(matches(selector, template) and selector["app.kubernetes.io/instance"] == RELEASE for selector in selectors for template in templates)


def matches(selector, template):
    return selector.items() <= template["metadata"]["labels"].items()


def targets(check, rendered):
    """Labels of a target outlive its pod, differ between shards, and are there before a pod is ready."""
    for name, kind, endpoints in [("shards", "ServiceMonitor", "endpoints"), ("existing-config", "PodMonitor", "podMetricsEndpoints")]:
        (endpoint,) = one(rendered[name], kind)["spec"][endpoints]
        templates = [document["spec"]["template"] for document in rendered[name] if document["kind"] == "Deployment"]
        first, second = ([relabel(endpoint["relabelings"], template, pod) for template in templates] for pod in ("abc", "xyz"))
        check(f"{name}: a new pod has the labels of the old one", first == second, first, second)
        check(f"{name}: each shard has its own", len({target["instance"] for target in first}) == len(templates), first)
        expected = [{"job": "teams-pstn-exporter", "instance": f"{NAMESPACE}/{RELEASE}-teams-pstn-exporter-{shard}", "namespace": NAMESPACE} for shard in range(len(templates))]
        check(f"{name}: job and instance as they should be", first == expected, first)
    services = [one(documents, "Service") for documents in rendered.values()]
    check("a pod that is not ready is scraped", all(service["spec"]["publishNotReadyAddresses"] is True for service in services))
    (endpoint,) = one(rendered["monitoring"], "ServiceMonitor")["spec"]["endpoints"]
    check("the user's relabelings come after ours", endpoint["relabelings"][-1] == {"targetLabel": "cluster", "replacement": "west"} and len(endpoint["metricRelabelings"]) == 1)
    (endpoint,) = one(rendered["existing-secret"], "ServiceMonitor")["spec"]["endpoints"]
    (pod,) = pods(rendered["existing-secret"])
    schemes = {endpoint["scheme"], *(pod["containers"][0][probe]["httpGet"]["scheme"].lower() for probe in ("livenessProbe", "readinessProbe"))}
    check("with TLS, monitor and probes speak https", schemes == {"https"}, schemes)


def relabel(rules, template, pod):
    """What Prometheus makes of the rules that the chart uses, for a target that the Operator has labelled."""
    labels = {"__address__": f"{pod}:10053", "job": "service", "instance": f"{pod}:10053", "pod": pod, "namespace": NAMESPACE}
    for key, value in template["metadata"]["labels"].items():
        labels["__meta_kubernetes_pod_label_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)] = value
    for rule in rules:
        if rule.get("action") == "labeldrop":
            labels = {key: value for key, value in labels.items() if not re.fullmatch(rule["regex"], key)}
        else:
            source = ";".join(labels.get(label, "") for label in rule.get("sourceLabels", []))
            labels[rule["targetLabel"]] = rule["replacement"].replace("$1", source)
    return {key: value for key, value in labels.items() if not key.startswith("__")}


def identity(check, account, documents):
    annotations = {key.removeprefix("azure.workload.identity/"): value for key, value in account["metadata"]["annotations"].items()}
    check("workload identity: the ServiceAccount says who", set(annotations) == {"client-id", "tenant-id", "service-account-token-expiration"}, annotations)
    templates = [document["spec"]["template"] for document in documents if document["kind"] == "Deployment"]
    check("workload identity: the pod is labelled for the webhook", all(template["metadata"]["labels"]["azure.workload.identity/use"] == "true" for template in templates))
    check("workload identity: the pod is of that account", all(template["spec"]["serviceAccountName"] == account["metadata"]["name"] for template in templates))
    check("workload identity: no secret anywhere", not any(document["kind"] == "Secret" or "secretName" in str(document) for document in documents))


def secrets(check, rendered):
    kinds = {name: {document["kind"] for document in documents} for name, documents in rendered.items()}
    check("an existing Secret: none is made", "Secret" not in kinds["existing-secret"])
    check("inline: the Secret is made, the ConfigMap does not have it", "Secret" in kinds["default"] and "not-a-secret" not in str(one(rendered["default"], "ConfigMap")))
    check("an existing configuration: none is made", "ConfigMap" not in kinds["monitoring"] - {"ConfigMap"} and len([d for d in rendered["existing-config"] if d["kind"] == "ConfigMap"]) == 1)
    modes = [volume["secret"]["defaultMode"] for documents in rendered.values() for pod in pods(documents) for volume in pod.get("volumes", []) if "secret" in volume]
    check("secrets are for the exporter's group only", modes and set(modes) == {0o440}, modes)


def persistence(check, rendered):
    """The folder for state files of each pod: set for the exporter, mounted for it alone, on by default."""
    for name, documents in rendered.items():
        volumes = []
        for pod in pods(documents):
            (container,) = pod["containers"]
            folder = {variable["name"]: variable.get("value") for variable in container.get("env", [])}.get("STATE_DIRECTORY")
            mounted = {mount["mountPath"] for mount in container.get("volumeMounts", []) if mount["name"] == "state"}
            check(f"{name}: the folder for state is the volume's: {folder or 'none'}", mounted == ({folder} if folder else set()), container)
            volumes += [volume for volume in pod.get("volumes", []) if volume["name"] == "state"]
        claims = [document["metadata"]["name"] for document in documents if document["kind"] == "PersistentVolumeClaim"]
        used = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]
        if name == "persistence":
            check("persistence: a claim for each shard", used == claims and len(set(claims)) == len(pods(documents)) == 2, used, claims)
        elif name == "proxy":
            check("proxy: the existing claim, and none is made", used == ["teams-pstn-exporter-state"] and not claims, used, claims)
        elif name in ("demo", "workload-identity"):
            check(f"{name}: nothing is written at all", not volumes and not claims, volumes, claims)
        else:
            check(f"{name}: an emptyDir by default", len(volumes) == len(pods(documents)) and all(volume == {"name": "state", "emptyDir": {}} for volume in volumes), volumes)


def network(check, rendered):
    def ports(name):
        return [sorted((port["port"], port["protocol"]) for port in rule["ports"]) for rule in one(rendered[name], "NetworkPolicy")["spec"]["egress"]]

    dns = [(53, "TCP"), (53, "UDP")]
    check("network policy: DNS, https and the managed identity's address", ports("network-policy") == [dns, [(443, "TCP")], [(80, "TCP")]], ports("network-policy"))
    check("network policy with a proxy: DNS and the proxy, nothing else", ports("proxy") == [dns, [(3128, "TCP")]], ports("proxy"))
    check("network policy of the demo: nothing", ports("demo") == [], ports("demo"))
    for name in ("network-policy", "proxy", "demo"):
        spec = one(rendered[name], "NetworkPolicy")["spec"]
        check(f"{name}: both directions are closed except for what is named", spec["policyTypes"] == ["Ingress", "Egress"] and all(rule["ports"] == [{"port": "http", "protocol": "TCP"}] and rule["from"] for rule in spec["ingress"]))
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"}
    blocks = [peer["ipBlock"] for peer in one(rendered["network-policy"], "NetworkPolicy")["spec"]["egress"][1]["to"]]
    check("https does not lead into private networks", blocks[0]["cidr"] == "0.0.0.0/0" and set(blocks[0]["except"]) == private, blocks)
