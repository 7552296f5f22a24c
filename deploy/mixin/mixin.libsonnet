// The mixin of teams-pstn-exporter: prometheusRules, prometheusAlerts and grafanaDashboards, with their settings in _config.
(import 'config.libsonnet') +
(import 'rules.libsonnet') +
(import 'alerts.libsonnet') +
(import 'dashboards.libsonnet')
