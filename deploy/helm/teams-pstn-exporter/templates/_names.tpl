{{- define "teams-pstn-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{/* 50 characters leave room for the suffixes of 63. */}}
{{- define "teams-pstn-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "teams-pstn-exporter.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "teams-pstn-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "teams-pstn-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "teams-pstn-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "teams-pstn-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ .Chart.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "teams-pstn-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "teams-pstn-exporter.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{- define "teams-pstn-exporter.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- with .Values.image.digest }}
{{- $image = printf "%s@%s" $image . }}
{{- end }}
{{- $image }}
{{- end }}

{{/* The Secret with the files of secrets/, none where there are no such files. */}}
{{- define "teams-pstn-exporter.secretName" -}}
{{- if .Values.secrets.existingSecret }}
{{- .Values.secrets.existingSecret }}
{{- else if .Values.secrets.inline }}
{{- include "teams-pstn-exporter.fullname" . }}
{{- end }}
{{- end }}

{{/* Whether reports are kept over a restart, in a volume of the chart's. */}}
{{- define "teams-pstn-exporter.keeps" -}}
{{- if and .Values.persistence.enabled (not .Values.demo) }}true{{ end }}
{{- end }}

{{/* Where. */}}
{{- define "teams-pstn-exporter.statePath" -}}
/var/lib/teams-pstn-exporter
{{- end }}

{{/*
The name of everything that a shard has of its own, from the context {root, shard}. Shard 0 has no suffix, so that it keeps its
Deployment and its claim when `shards` changes from 1: with another name, the new pod would begin before the old one ends.
*/}}
{{- define "teams-pstn-exporter.shardName" -}}
{{- include "teams-pstn-exporter.fullname" .root }}{{ if .shard }}-{{ .shard }}{{ end }}
{{- end }}

{{/* The Secret with web-config.yml, none without TLS and passwords. */}}
{{- define "teams-pstn-exporter.webSecretName" -}}
{{- if .Values.web.existingSecret }}
{{- .Values.web.existingSecret }}
{{- else if .Values.web.config }}
{{- include "teams-pstn-exporter.fullname" . }}-web
{{- end }}
{{- end }}

{{- define "teams-pstn-exporter.scheme" -}}
{{- if or .Values.web.tls (dig "tls_server_config" false .Values.web.config) }}https{{ else }}http{{ end }}
{{- end }}

{{/* Whether the chart makes the ConfigMap. */}}
{{- define "teams-pstn-exporter.ownConfig" -}}
{{- if not (or .Values.demo .Values.existingConfigMap .Values.existingConfigSecret) }}true{{ end }}
{{- end }}

{{/*
Labels of a target. The rules tell exporters apart by job and instance and compare with yesterday's values, so neither may
change with a pod: instance is the place of the shard, and the pod's own name goes.
*/}}
{{- define "teams-pstn-exporter.relabelings" -}}
- targetLabel: job
  replacement: teams-pstn-exporter
- sourceLabels: [__meta_kubernetes_pod_label_teams_pstn_exporter_shard]
  targetLabel: instance
  replacement: {{ .Release.Namespace }}/{{ include "teams-pstn-exporter.fullname" . }}-$1
- action: labeldrop
  regex: pod
{{- end }}

{{/* What a ServiceMonitor's and a PodMonitor's endpoint have in common. */}}
{{- define "teams-pstn-exporter.endpoint" -}}
{{- $monitor := .monitor }}
port: http
path: /metrics
scheme: {{ include "teams-pstn-exporter.scheme" .root }}
interval: {{ $monitor.interval }}
scrapeTimeout: {{ $monitor.scrapeTimeout }}
{{- range $key := list "tlsConfig" "basicAuth" }}
{{- with get $monitor $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
relabelings:
  {{- include "teams-pstn-exporter.relabelings" .root | nindent 2 }}
  {{- with $monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
