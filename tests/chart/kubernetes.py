"""Kubernetes' own schemas, and those of the Prometheus Operator's resources, as kubeconform reads them."""

import json
import zlib
from pathlib import Path

import yaml
from tools import TOOLS, go_module, wheel

# The oldest that the chart takes, one between, and the newest that there are schemas of.
VERSIONS = ["1.27.0", "1.32.0", "1.37.0"]
# A wheel that holds the JSON schemas of each version, made from the OpenAPI description in Kubernetes' own sources.
WHEEL = ("kubernetes-validate", "1.37.0")
OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
# Kinds of objects that the chart makes.
KINDS = ["configmap-v1", "deployment-apps-v1", "networkpolicy-networking-v1", "persistentvolumeclaim-v1", "poddisruptionbudget-policy-v1", "secret-v1", "service-v1", "serviceaccount-v1"]
RESOURCES = ["servicemonitors", "podmonitors", "prometheusrules"]
PATTERN = "{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json"


def schemas():
    """Where the schemas are, as kubeconform's -schema-location; none if they cannot be had."""
    # Made again when this file changes.
    folder = TOOLS / f"kubernetes-schemas-{zlib.crc32(Path(__file__).read_bytes()):08x}"
    done = folder / "done"
    if not done.exists():
        archive, operator = wheel(*WHEEL), go_module(*OPERATOR)
        if archive is None or operator is None:
            return None
        for version in VERSIONS:
            (folder / f"v{version}").mkdir(parents=True, exist_ok=True)
            unpack(archive, version, folder / f"v{version}")
            for resource in RESOURCES:
                convert(operator / f"example/prometheus-operator-crd/monitoring.coreos.com_{resource}.yaml", folder / f"v{version}")
        done.touch()
    return f"{folder}/{PATTERN}"


def unpack(archive, version, folder):
    """The schemas that stand by themselves: kubeconform follows no reference to another file."""
    prefix = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
    definitions = json.loads(archive.read(prefix + "_definitions.json").decode())["$defs"]
    for kind in KINDS:
        schema = json.loads(archive.read(f"{prefix}{kind}.json").decode())
        schema["$defs"] = {}
        collect(schema, schema["$defs"], definitions)
        (folder / f"{kind}.json").write_text(json.dumps(schema))


def collect(node, found, definitions):
    """Turns references into ones to `found`, and puts there what they lead to."""
    if isinstance(node, list):
        for item in node:
            collect(item, found, definitions)
    elif isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            name = node["$ref"].rpartition("/")[2]
            node["$ref"] = f"#/$defs/{name}"
            if name not in found:
                found[name] = definitions[name]
                collect(found[name], found, definitions)
        for key, value in node.items():
            if key != "$defs":
                collect(value, found, definitions)


def convert(path, folder):
    definition = yaml.safe_load(path.read_text())["spec"]
    (version,) = definition["versions"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    name = f"{definition['names']['kind'].lower()}-{definition['group'].split('.')[0]}-{version['name']}.json"
    (folder / name).write_text(json.dumps(schema))


def strict(node):
    """Refuses undescribed keys if the description is one of an object with known parts."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: strict(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and not node.get("x-kubernetes-preserve-unknown-fields"):
        node.setdefault("additionalProperties", False)
    return node
