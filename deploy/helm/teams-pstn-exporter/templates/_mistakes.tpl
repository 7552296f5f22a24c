{{/* Mistakes that the schema cannot express, or not in a form that a reader would understand. Included by the Deployment. */}}
{{- define "teams-pstn-exporter.mistakes" -}}
{{- $own := include "teams-pstn-exporter.ownConfig" . }}
{{- if and $own (not .Values.config.tenants) }}
{{- fail "config.tenants is empty: name at least one tenant (values.yaml has an example), or try demo=true, which needs no account" }}
{{- end }}
{{- if and .Values.existingConfigMap .Values.existingConfigSecret }}
{{- fail "existingConfigMap and existingConfigSecret are both set: keep one of them" }}
{{- end }}
{{- if and .Values.demo (or .Values.existingConfigMap .Values.existingConfigSecret) }}
{{- fail "demo takes no configuration: remove existingConfigMap and existingConfigSecret" }}
{{- end }}
{{- if and .Values.secrets.existingSecret .Values.secrets.inline }}
{{- fail "secrets.existingSecret and secrets.inline are both set: keep one of them" }}
{{- end }}
{{- if and .Values.web.existingSecret .Values.web.config }}
{{- fail "web.existingSecret and web.config are both set: keep one of them" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor and podMonitor are both enabled: everything would be counted twice" }}
{{- end }}
{{- $shards := int .Values.shards }}
{{- if and .Values.demo (gt $shards 1) }}
{{- fail "demo has one tenant: shards must be 1" }}
{{- end }}
{{- if and $own (gt $shards 1) (gt $shards (len .Values.config.tenants)) }}
{{- fail (printf "shards is %d, but there are only %d tenants: a shard would have none" $shards (len .Values.config.tenants)) }}
{{- end }}
{{- with .Values.persistence }}
{{- if and .existingClaim .size }}
{{- fail "persistence.existingClaim and persistence.size are both set: keep one of them" }}
{{- end }}
{{- if and .storageClass (not .size) }}
{{- fail "persistence.storageClass is of a claim that the chart makes: set persistence.size too" }}
{{- end }}
{{- if and .existingClaim (gt $shards 1) }}
{{- fail (printf "persistence.existingClaim is one claim, but there are %d shards: let persistence.size make one for each" $shards) }}
{{- end }}
{{- if and (or .existingClaim .size) (not (include "teams-pstn-exporter.keeps" $)) }}
{{- fail "persistence has a claim, but there are no state files: set persistence.enabled=true, without demo" }}
{{- end }}
{{- if and .enabled $own $.Values.config.storage }}
{{- fail "config.storage is set, but `persistence` sets the folder: remove config.storage, or set persistence.enabled=false" }}
{{- end }}
{{- end }}
{{- range .Values.config.tenants }}
{{- if and $own .federated_token_file (hasPrefix "/var/run/secrets/azure/" .federated_token_file) (not $.Values.workloadIdentity.enabled) }}
{{- fail (printf "tenant %s: federated_token_file is there only with workloadIdentity.enabled=true" (.name | default .tenant_id)) }}
{{- end }}
{{- end }}
{{- end }}
