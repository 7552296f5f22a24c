// Constructs that rules and alerts share.
local join = std.join;

{
  // A metric of the exporter with matchers, besides those of the configuration.
  metric(config, name, matchers=[])::
    local all = std.filter(function(matcher) matcher != '', [config.selector] + matchers);
    if all == [] then name else '%s{%s}' % [name, join(', ', all)],

  // The name of a recorded series: level:metric:operation.
  recorded(levels, metric, operation):: '%s:%s:%s' % [join('_', levels), metric, operation],

  // A recording rule. The expression is a block of lines.
  record(name, expr):: { record: name, expr: $.block(expr) },

  block(expr):: std.stripChars(expr, '\n') + '\n',

  group(config, name, rules):: {
    name: name,
    [if config.evaluationInterval != null then 'interval']: config.evaluationInterval,
    rules: rules,
  },

  // Returns whether an alert is switched on.
  enabled(config, alert):: std.get(config.optionalAlerts, alert, true),

  // The start of the billing period that a report's figures belong to, as recorded.
  periodStart:: 'report:teams_pstn_billing_period_start_timestamp_seconds:max',
  periodOf(report):: '%s{report="%s"}' % [$.periodStart, report.name],

  // Matchers of users that stand for one person, and of those with international calls.
  oneUser:: ['user!=""', 'user!="__other__"', 'user!="unknown"'],
  internationalUsers:: ['destination_context="International"'] + $.oneUser,
}
