"""values.schema.json: what the chart's values may be. Its part `config` is the exporter's own schema."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/teams-pstn-exporter"
# Objects that Kubernetes or another operator validates itself.
FREE = {"type": "object"}
FREE_LIST = {"type": "array", "items": {"type": "object"}}
TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
STRINGS = {"type": "object", "additionalProperties": TEXT}
# A name of Kubernetes', or nothing.
NAME = {"type": "string", "maxLength": 253, "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"}
PROBE = {key: {"type": "integer", "minimum": 1} for key in ("initialDelaySeconds", "periodSeconds", "timeoutSeconds", "failureThreshold")}


def values_schema():
    """Draft 7, which every Helm 3 understands."""
    config, definitions = exporters()
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart teams-pstn-exporter"}
    schema |= strict(
        config=config,
        existingConfigMap=NAME,
        existingConfigSecret=NAME,
        demo=FLAG,
        secrets=strict(
            existingSecret=NAME,
            inline=STRINGS | {"propertyNames": {"pattern": "^[-._a-zA-Z0-9]+$"}, "additionalProperties": {"type": "string", "minLength": 1}},
        ),
        workloadIdentity=strict(enabled=FLAG, clientId=guid(), tenantId=guid()),
        # As many as the flag takes.
        shards={"type": "integer", "minimum": 1, "maximum": 256},
        persistence=strict(enabled=FLAG, existingClaim=NAME, size={"type": "string", "pattern": "^([1-9][0-9]*(Mi|Gi))?$"}, storageClass=NAME),
        image=strict(
            repository={"type": "string", "pattern": "^[^:@\\s]+(:[0-9]+/[^:@\\s]+)?$"},
            tag={"type": "string", "pattern": "^([A-Za-z0-9_][-.A-Za-z0-9_]{0,127})?$"},
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        imagePullSecrets={"type": "array", "items": strict(name=NAME)},
        nameOverride=TEXT,
        fullnameOverride=NAME,
        log=strict(level={"enum": ["debug", "info", "warn", "error"]}, format={"enum": ["logfmt", "json"]}),
        web=strict(existingSecret=NAME, config=FREE, tls=FLAG),
        proxy=strict(httpsProxy={"type": "string", "pattern": "^(https?://[^/\\s@]+/?)?$"}, noProxy=TEXT),
        service=strict(
            type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port={"type": "integer", "minimum": 1, "maximum": 65535}, annotations=STRINGS, labels=STRINGS
        ),
        serviceAccount=strict(create=FLAG, name=NAME, annotations=STRINGS),
        serviceMonitor=monitor(),
        podMonitor=monitor(),
        prometheusRule=strict(enabled=FLAG, additionalLabels=STRINGS),
        dashboards=strict(enabled=FLAG, labels=STRINGS | {"minProperties": 1}, annotations=STRINGS),
        networkPolicy=strict(
            enabled=FLAG,
            ingress=strict(**{"from": FREE_LIST}, extra=FREE_LIST),
            egress=strict(
                dns=strict(ports={"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1, "maximum": 65535}}, to=FREE_LIST),
                https=strict(to=FREE_LIST),
                proxy=strict(to=FREE_LIST),
                managedIdentity=FLAG,
                extra=FREE_LIST,
            ),
        ),
        resources=strict(requests=FREE, limits=FREE, claims=FREE_LIST),
        livenessProbe=strict(**PROBE),
        readinessProbe=strict(**PROBE, successThreshold={"type": "integer", "minimum": 1}),
        podDisruptionBudget=strict(enabled=FLAG),
        podSecurityContext=FREE,
        securityContext=FREE,
        revisionHistoryLimit={"type": "integer", "minimum": 0},
        priorityClassName=NAME,
        podAnnotations=STRINGS,
        podLabels=STRINGS,
        nodeSelector=STRINGS,
        tolerations=FREE_LIST,
        affinity=FREE,
        topologySpreadConstraints=FREE_LIST,
        extraArgs={
            "type": "array",
            "items": {
                "type": "string",
                "pattern": "^--[a-z]",
                # The chart's own, of which a second one would be refused or have no port.
                "not": {"pattern": "^--(config\\.|tenants\\.shard|web\\.(config\\.file|listen-address|telemetry-path|systemd-socket)|log\\.)"},
            },
        },
        extraEnv=FREE_LIST,
        extraVolumes=FREE_LIST,
        extraVolumeMounts=FREE_LIST,
        extraObjects=FREE_LIST,
    )
    # Helm's own, for a chart that has this one as a part.
    schema["properties"]["global"] = FREE
    return json.dumps(schema | {"definitions": definitions}, indent=2) + "\n"


def exporters():
    """The exporter's own schema in draft 7, as (config, definitions). That there is a tenant is the template's to say, and better."""
    schema = draft7(json.loads((ROOT / "deploy/config.schema.json").read_text()))
    definitions = schema.pop("$defs")
    config = {key: schema[key] for key in ("description", "type", "properties", "additionalProperties")}
    config["properties"]["tenants"].pop("minItems")
    return config, definitions


def draft7(node):
    if isinstance(node, list):
        return [draft7(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {{"dependentRequired": "dependencies"}.get(key, key): draft7(value) for key, value in node.items()}
    if "$ref" in node:
        # Draft 7 ignores keys beside a reference.
        node = {"$ref": node["$ref"].replace("#/$defs/", "#/definitions/")}
    return node


def strict(**properties):
    return {"type": "object", "additionalProperties": False, "properties": properties}


def guid():
    return {"type": "string", "pattern": "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$"}


def monitor():
    return strict(
        enabled=FLAG,
        additionalLabels=STRINGS,
        interval=DURATION,
        scrapeTimeout=DURATION,
        tlsConfig=FREE,
        basicAuth=FREE,
        relabelings=FREE_LIST,
        metricRelabelings=FREE_LIST,
    )
