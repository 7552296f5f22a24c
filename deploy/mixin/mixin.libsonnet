// The mixin of teams-pstn-exporter: prometheusRules and prometheusAlerts, with their settings in _config.
(import 'config.libsonnet') +
(import 'rules.libsonnet') +
(import 'alerts.libsonnet')
