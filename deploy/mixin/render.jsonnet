// One file of rules as YAML: part is prometheusRules or prometheusAlerts; config overrides settings of _config.
function(part, config={})
  |||
    # Rendered from deploy/mixin by deploy/mixin/render. Change it there: the reasons are there, too.
    # Needs Prometheus 2.42 or newer, and no editing.
  ||| + std.manifestYamlDoc(
    ((import 'mixin.libsonnet') { _config+:: config })[part], indent_array_in_object=true, quote_keys=false
  )
