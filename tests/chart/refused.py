"""Values that must be refused: a part of the message that says so, as a regular expression, and the values."""

TENANT = {
    "tenant_id": "11111111-2222-3333-4444-555555555555",
    "client_id": "66666666-7777-8888-9999-000000000000",
    "client_secret_file": "/etc/teams-pstn-exporter/secrets/client-secret",
}
CONFIG = {"tenants": [TENANT]}


def config(**changes):
    return {"config": {**CONFIG, **changes}}


def tenant(**changes):
    return {"config": {"tenants": [{**TENANT, **changes}]}}


REFUSED = [
    # By the schema of the chart.
    ("additional properties 'replicas' not allowed", {**config(), "replicas": 2}),
    ("at '/image': additional properties 'tags' not allowed", {**config(), "image": {"tags": "x"}}),
    ("at '/image/digest': '.*' does not match pattern", {**config(), "image": {"digest": "latest"}}),
    ("at '/image/repository': '.*' does not match pattern", {**config(), "image": {"repository": "example.com/exporter:tag"}}),
    ("at '/image/pullPolicy': value must be one of", {**config(), "image": {"pullPolicy": "Sometimes"}}),
    ("at '/shards': minimum: got 0, want 1", {**config(), "shards": 0}),
    ("at '/shards': maximum: got 257, want 256", {**config(), "shards": 257}),
    ("at '/shards': got number, want integer", {**config(), "shards": 1.5}),
    ("at '/shards': got string, want integer", {**config(), "shards": "2"}),
    ("at '/log/level': value must be one of", {**config(), "log": {"level": "verbose"}}),
    ("at '/service/port': maximum: got 70,000, want 65,535", {**config(), "service": {"port": 70000}}),
    ("at '/service/type': value must be one of", {**config(), "service": {"type": "ExternalName"}}),
    ("at '/extraArgs/0': 'not' failed", {**config(), "extraArgs": ["--config.file=/elsewhere"]}),
    ("at '/extraArgs/0': 'not' failed", {**config(), "extraArgs": ["--tenants.shard=0/2"]}),
    ("at '/extraArgs/0': 'not' failed", {**config(), "extraArgs": ["--web.listen-address=:1"]}),
    ("at '/extraArgs/0': '.*' does not match pattern", {**config(), "extraArgs": ["demo"]}),
    ("at '/secrets/existingSecret': '.*' does not match pattern", {**config(), "secrets": {"existingSecret": "Not A Name"}}),
    ("at '/secrets/inline/contoso': minLength: got 0, want 1", {**config(), "secrets": {"inline": {"contoso": ""}}}),
    ("'../key' does not match pattern", {**config(), "secrets": {"inline": {"../key": "x"}}}),
    ("at '/workloadIdentity/clientId': '.*' does not match pattern", {**config(), "workloadIdentity": {"clientId": "contoso"}}),
    # A password in plain sight.
    ("at '/proxy/httpsProxy': '.*' does not match pattern", {**config(), "proxy": {"httpsProxy": "http://user:password@proxy:3128"}}),
    ("at '/serviceMonitor/interval': '.*' does not match pattern", {**config(), "serviceMonitor": {"interval": "often"}}),
    ("at '/podLabels/a': got number, want string", {**config(), "podLabels": {"a": 1}}),
    ("at '/networkPolicy/egress/dns/ports': minItems: got 0, want 1", {**config(), "networkPolicy": {"egress": {"dns": {"ports": []}}}}),
    ("at '/persistence/size': '.*' does not match pattern", {**config(), "persistence": {"size": "much"}}),
    ("at '/persistence/size': got number, want string", {**config(), "persistence": {"size": 1}}),
    # By the exporter's own schema, which is a part of it.
    ("at '/config': additional properties 'budget' not allowed", config(budget=[])),
    ("at '/config/billing/cycle_day': maximum: got 31, want 28", config(billing={"cycle_day": 31})),
    ("at '/config/labels/user': value must be one of", config(labels={"user": "mail"})),
    ("at '/config/reports/0': value must be", config(reports=["fax"])),
    ("at '/config/budgets/0': missing property 'currency'", config(budgets=[{"name": "all", "amount": 1}])),
    ("at '/config/tenants/0': additional properties 'client_secret' not allowed", tenant(client_secret="in plain sight")),
    ("at '/config/tenants/0/client_id': '.*' is not valid uuid", tenant(client_id="contoso")),
    ("at '/config/tenants/0': 'oneOf' failed", tenant(managed_identity=True)),
    ("at '/config/tenants/0': properties 'client_certificate_file' required, if 'client_certificate_key_file' exists", tenant(client_certificate_key_file="key")),
    # By the templates.
    ("config.tenants is empty: name at least one tenant", {}),
    ("existingConfigMap and existingConfigSecret are both set", {"existingConfigMap": "a", "existingConfigSecret": "b"}),
    ("demo takes no configuration", {"demo": True, "existingConfigMap": "a"}),
    ("demo has one tenant", {"demo": True, "shards": 2}),
    ("secrets.existingSecret and secrets.inline are both set", {**config(), "secrets": {"existingSecret": "a", "inline": {"b": "c"}}}),
    ("web.existingSecret and web.config are both set", {**config(), "web": {"existingSecret": "a", "config": {"basic_auth_users": {}}}}),
    ("everything would be counted twice", {**config(), "serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}),
    ("existingClaim and persistence.size are both set", {**config(), "persistence": {"existingClaim": "a", "size": "1Gi"}}),
    ("set persistence.size too", {**config(), "persistence": {"storageClass": "fast"}}),
    ("existingClaim is one claim, but there are 2 shards", {"config": {"tenants": [{**TENANT, "name": "a"}, {**TENANT, "name": "b", "tenant_id": "b.example"}]}, "shards": 2, "persistence": {"existingClaim": "a"}}),
    ("persistence has a claim, but there are no state files", {**config(), "persistence": {"enabled": False, "size": "1Gi"}}),
    ("persistence has a claim, but there are no state files", {"demo": True, "persistence": {"existingClaim": "a"}}),
    ("config.storage is set, but `persistence` sets the folder", config(storage={"path": "/elsewhere"})),
    ("shards is 2, but there are only 1 tenants", {**config(), "shards": 2}),
    (
        "only with workloadIdentity.enabled=true",
        {"config": {"tenants": [{"tenant_id": "contoso.example", "client_id": TENANT["client_id"], "federated_token_file": "/var/run/secrets/azure/tokens/azure-identity-token"}]}},
    ),
]
