# How pint checks the rules and alerts: all that it can see without a Prometheus, except for two findings.

checks {
  # It reports alerts on recording rules of another group, because these may be an evaluation old. Microsoft's data is a day old.
  disabled = ["rule/dependency"]
}

rule {
  match {
    name = "TeamsPstnExporterDown"
  }
  # It reports a pattern in the place of a name. The usual names of a job are several: teams-pstn, teams-pstn-exporter.
  disable = ["promql/regexp"]
}
