// Alerts. They need the recording rules and no editing: limits are the budgets of the exporter's configuration, or ratios that
// hold for any tenant.
//
// A failed scrape or a restart of the exporter neither fires nor resolves an alert: every alert keeps firing for as long as
// such a gap may last. Every alert has the labels job, instance and, if tenants are named, tenant. No alert adds up currencies.
local lib = import 'lib.libsonnet';

{
  local config = $._config,
  local metric(name, matchers=[]) = lib.metric(config, name, matchers),
  local reports = config.reports,

  // Templates that texts share.
  local words = {
    amount: '{{ printf "%.2f" $value }} {{ $labels.currency }}',
    budget: 'Budget {{ $labels.budget }}{{ with $labels.tenant }} of {{ . }}{{ end }}',
    // Behind what belongs to a tenant.
    tenant: '{{ with $labels.tenant }} of {{ . }}{{ end }}',
    // Microsoft's data are a day or two late.
    late: 'The figures are late: the calls were made 24 to 54 hours before they arrived',
  },

  // An alert. summary and description may use the templates above. If severity is null, the result of the expression has it as
  // a label. hold is how long the expression must be true, keep how long the alert fires on without it.
  local alert(name, severity, expr, summary, description, labels={}, hold=null, keep=config.keepFiring.figures) = {
    alert: name,
    expr: lib.block(expr),
    [if hold != null then 'for']: hold,
    keep_firing_for: keep,
    [if severity != null then 'labels']: { severity: severity } + labels,
    annotations: {
      summary: summary % words,
      description: description % words,
      // Alertmanager shows it apart from the texts.
      [if std.length(std.findSubstr('%(amount)s', description)) > 0 then 'amount']: words.amount,
      runbook_url: config.runbookURL % name,
    },
  },

  // An alert about the exporter itself.
  local health(name, severity, expr, summary, description, hold, labels={}) =
    alert(name, severity, expr, summary, description, labels, hold, config.keepFiring.health),

  // Figures that arrived late: polls were missed, so that the difference of a day spans over 30 hours.
  local missedPolls(report) =
    local success = metric('teams_pstn_report_last_success_timestamp_seconds', ['report="%s"' % report.name]);
    '(%s - %s offset 1d > 30 * 3600)' % [success, success],

  // Compared with the day of the previous week that cost most and not with the mean, which weekends, holidays and the first days
  // of a period pull down. Silent below ten calls, in the first three days of history, and if polls were missed.
  local spendSpike(report, what) = alert(
    'TeamsPstnSpendSpike',
    'warning',
    |||
      currency:%(charge)s:increase1d > 2 * currency:%(charge)s:max7d_increase1d
      and
      currency:%(calls)s:increase1d >= 10
      unless ignoring (currency, report)
      %(missed)s
    ||| % report { missed: missedPolls(report) },
    summary='Unusually high spend on %s in {{ $labels.currency }}%%(tenant)s' % what,
    description='%(amount)s of charges arrived within 24 hours, more than twice the highest amount of the previous week. %(late)s. If no event explains them, look for a stolen account.',
    labels={ report: report.name },
    hold='30m',
  ),

  // Two failures of one reason, unless one is enough because it does not go away by itself.
  local reportFailing(severity, expr) = health(
    'TeamsPstnReportFailing',
    severity,
    |||
      (
        %s
      )
      and ignoring (reason)
      %s == 0
    ||| % [std.strReplace(std.stripChars(expr, '\n'), '\n', '\n  '), metric('teams_pstn_report_up')],
    summary='Report {{ $labels.report }}%(tenant)s cannot be fetched: {{ $labels.reason }}',
    description='The last poll of exporter {{ $labels.instance }} failed, and figures do not change until one succeeds. Run `teams-pstn-exporter check` on its machine: it names the remedy.',
    hold='5m',
  ),
  local failures(matcher) = metric('teams_pstn_report_failures_total', ['reason%s"auth|forbidden"' % matcher]),

  local credentialExpiring(days, severity) = health(
    'TeamsPstnCredentialExpiring',
    severity,
    '0 < %s < time() + %d * 86400' % [metric('teams_pstn_credential_expiry_timestamp_seconds'), days],
    summary='The credential of the exporter%%(tenant)s expires within %d days' % days,
    description='The secret or certificate of exporter {{ $labels.instance }} expires at {{ $value | humanizeTimestamp }}; then there are no new figures and no budget alerts. Put a new one into its file.',
    hold='15m',
  ),

  local money = [
    // Thresholds and their severities are those of the exporter's configuration.
    alert(
      'TeamsPstnBudgetThresholdReached',
      null,
      |||
        (%(spent)s > 0)
        >= ignoring (threshold, severity) group_right ()
        (
          %(threshold)s
          * ignoring (threshold, severity) group_left ()
          %(amount)s
        )
      ||| % {
        spent: metric('teams_pstn_budget_spent'),
        threshold: metric('teams_pstn_budget_threshold_ratio'),
        amount: metric('teams_pstn_budget_amount'),
      },
      summary='%(budget)s: {{ $labels.threshold }} %% spent',
      description='%(amount)s are spent in this billing period. The exporter does not stop calls: see on the dashboard Organizers who spends most.',
    ),
    alert(
      'TeamsPstnPoolThresholdReached',
      null,
      |||
        (%(used)s > 0)
        >= ignoring (threshold, severity) group_right ()
        (
          %(threshold)s
          * ignoring (threshold, severity) group_left ()
          %(size)s
        )
      ||| % {
        used: metric('teams_pstn_pool_used_seconds'),
        threshold: metric('teams_pstn_pool_threshold_ratio'),
        size: metric('teams_pstn_pool_size_seconds'),
      },
      summary='Pool {{ $labels.pool }}%(tenant)s: {{ $labels.threshold }} %% of the included minutes used',
      description='{{ $value | humanizeDuration }} are used in this calendar month. Calls beyond the pool are charged, or blocked if there are no Communications Credits. See on the dashboard Calls who calls most.',
    ),
    // Only while the budget is not spent yet. There is no forecast during the first 5 % of a period.
    alert(
      'TeamsPstnForecastAboveBudget',
      'warning',
      |||
        budget:teams_pstn_budget_spent:forecast > %(amount)s
        and
        %(spent)s < %(amount)s
      ||| % { spent: metric('teams_pstn_budget_spent'), amount: metric('teams_pstn_budget_amount') },
      summary='%(budget)s will not last until the billing period ends',
      description='At the pace of this billing period so far, %(amount)s will be spent when it ends. Ask those who spend most to join by app, or raise the budget.',
      hold='6h',
    ),
    // The value is the share of the pool. There is no forecast during the first 5 % of a month.
    alert(
      'TeamsPstnPoolRunsOut',
      'warning',
      |||
        pool:teams_pstn_pool_used_seconds:forecast / %(size)s > 1
        and
        %(used)s < %(size)s
      ||| % { used: metric('teams_pstn_pool_used_seconds'), size: metric('teams_pstn_pool_size_seconds') },
      summary='Pool {{ $labels.pool }}%(tenant)s will not last until the month ends',
      description='At the pace of this calendar month so far, {{ $value | humanizePercentage }} of the included minutes will be used when it ends. See on the dashboard Calls who calls most, or order licences before calls are charged.',
      hold='6h',
    ),
    spendSpike(reports.dialout, 'dial-out from meetings'),
    // Dial-out from meetings is in this log, too: for it, both alerts fire if both reports are on.
    spendSpike(reports.callLog, 'calls'),
    // Toll fraud goes to one country. More than half of the highest day of all countries together, and twice the highest day of
    // this country, which a country that was never called does not have. Silent as above.
    alert(
      'TeamsPstnDestinationSpendSpike',
      'warning',
      |||
        currency_destination:%(charge)s:increase1d
        > ignoring (destination) group_left ()
        0.5 * currency:%(charge)s:max7d_increase1d
        unless
        currency_destination:%(charge)s:increase1d <= 2 * currency_destination:%(charge)s:max7d_increase1d
        and
        currency_destination:%(calls)s:increase1d >= 10
        unless ignoring (currency, destination, report)
        %(missed)s
      ||| % reports.callLog { missed: missedPolls(reports.callLog) },
      summary='Unusually high spend on calls to {{ $labels.destination }} in {{ $labels.currency }}%(tenant)s',
      description='%(amount)s of charges for calls to {{ $labels.destination }} arrived within 24 hours, more than twice the highest amount of the previous week. %(late)s. Such a rise is typical of stolen accounts: look up the callers and block their sign-in.',
      hold='30m',
    ),
    // Stays for a day. Silent on the first day on which users are recorded, when every user would be new. Users without a label
    // of their own (aggregated, unknown, labels.user none) cannot be distinguished and are left out.
    alert(
      'TeamsPstnFirstInternationalSpend',
      'info',
      |||
        sum without (usage_location, destination_context) (
          %(charge)s
        ) > 0
        unless ignoring (currency)
        user:teams_pstn_dialout_international:last_seen_timestamp_seconds offset 1d
        and ignoring (currency, user)
        tenant:teams_pstn_dialout:present offset 1d
      ||| % { charge: metric(reports.dialout.charge, lib.internationalUsers) },
      summary='First international dial-out spend of {{ $labels.user }}%(tenant)s',
      description='Meetings of {{ $labels.user }} caused international dial-out charges of %(amount)s, after none in 90 days. Ask the organizer, on whom charges are booked no matter who was called.',
    ),
  ],

  local calls = [
    // More than half of 20 or more calls, and 1.5 times the share of the previous week, because an unanswered call is a failure
    // too. For a trunk without history the alert fires at once, except in the first days, when no trunk has one.
    alert(
      'TeamsPstnTrunkFailing',
      'warning',
      |||
        trunk:%(calls)s:failure_ratio1d > 0.5
        unless
        trunk:%(calls)s:failure_ratio1d <= 1.5 * avg_over_time(trunk:%(calls)s:failure_ratio1d[7d:1h] offset 1d)
        and
        trunk:%(calls)s:increase1d >= 20
        and ignoring (trunk, report)
        %(start)s offset 3d
      ||| % reports.directRouting { start: lib.periodOf(reports.directRouting) },
      summary='{{ $value | humanizePercentage }} of the calls over trunk {{ $labels.trunk }}%(tenant)s fail',
      description='Of the calls over trunk {{ $labels.trunk }} that arrived within 24 hours, {{ $value | humanizePercentage }} failed, at least half as many again as in the week before. Look up their SIP codes on the dashboard Calls: 5xx points to the session border controller or the carrier.',
      hold='30m',
    ),
    // Three days, because the log shows a block one to two days later. By the time of the block and not by its arrival, so that
    // neither a restart nor a first installation reports an old block.
    alert(
      'TeamsPstnUserBlocked',
      'warning',
      'time() - %s < 3 * 86400' % metric('teams_pstn_blocked_users_since_timestamp_seconds'),
      summary='{{ with $labels.user }}User {{ . }}{{ else }}A user{{ end }}%(tenant)s is blocked from calling the telephone network',
      description="The block began {{ $value | humanizeDuration }} ago. Its reason is {{ $labels.reason }}. A block for high usage is Microsoft's guard against fraud: find out whether the account was misused before it is unblocked.",
      hold='5m',
    ),
  ],

  // The reports that are polled every six hours by default.
  local logs = std.join('|', [reports.callLog.name, reports.directRouting.name, reports.sms.name]),

  local exporter = [
    // Two polls missed: 2.5 times the usual interval between polls, measured over the last day, so that any interval works. If
    // the exporter does not report failures: after 2.5 hours, or 15 for a log, because restarts make the measured interval too
    // short and these are 2.5 times the default ones. After 26 hours in any case. Or no success at all.
    health(
      'TeamsPstnReportStale',
      'warning',
      |||
        %(age)s > 2.5 * report:teams_pstn_report_last_attempt:spacing_seconds
        and
        (
          %(age)s{%(logs)s} > 54000
          or %(age)s{%(others)s} > 9000
          or %(age)s > 60 and %(up)s == 0
        )
        or
        %(age)s > 26 * 3600
        or
        %(success)s == 0
      ||| % {
        age: 'report:teams_pstn_report_last_success:age_seconds',
        logs: 'report=~"%s"' % logs,
        others: 'report!~"%s"' % logs,
        up: metric('teams_pstn_report_up'),
        success: metric('teams_pstn_report_last_success_timestamp_seconds'),
      },
      summary='Report {{ $labels.report }}%(tenant)s is out of date',
      description='Exporter {{ $labels.instance }} {{ if $value }}completed this report {{ $value | humanizeDuration }} ago{{ else }}has never completed this report{{ end }}, and budgets do not move until it does. Run `teams-pstn-exporter check` on its machine: it names the remedy.',
      hold='15m',
    ),
    // The second half covers a failure before the first scrape.
    reportFailing('critical', |||
      increase(%(failures)s[6h]) > 0
      or
      %(failures)s > 0 unless %(failures)s offset 6h
    ||| % { failures: failures('=~') }),
    reportFailing('warning', 'increase(%s[12h]) > 1.5' % failures('!~')),
    credentialExpiring(30, 'warning'),
    credentialExpiring(7, 'critical'),
    // The exporter runs well, but a restart would lose figures or fail. A single failure to write does not matter: nothing is
    // lost unless the exporter restarts before the next poll.
    health(
      'TeamsPstnRestartUnsafe',
      'warning',
      'sum without (outcome) (increase(%s[12h])) > 1.5' % metric('teams_pstn_storage_files_total', ['outcome="write_failed"']),
      summary='Exporter {{ $labels.instance }} cannot write its state files',
      description="Writing failed twice or more within twelve hours; the figures are right, but a restart may begin without them. Make room on the disk, or let the exporter's user write to storage.path.",
      hold='5m',
      labels={ reason: 'storage' },
    ),
    health(
      'TeamsPstnRestartUnsafe',
      'warning',
      '%s == 0' % metric('teams_pstn_config_last_reload_successful'),
      summary='Exporter {{ $labels.instance }} refused its new configuration',
      description='The exporter keeps using the previous configuration, and does not start with the new one. Correct the error that its page and its log show, and reload.',
      hold='15m',
      labels={ reason: 'configuration' },
    ),
    health(
      'TeamsPstnUsersAggregated',
      'info',
      '%s > 0' % metric('teams_pstn_report_aggregated_series'),
      summary='Users are aggregated in report {{ $labels.report }}%(tenant)s',
      description='{{ $value }} label combinations are aggregated into user __other__; totals and budgets are right. Raise labels.max_series to see these users.',
      hold='15m',
    ),
    // Any target that was an exporter within the last 30 days, under any job name, or a target of a job with the usual name. A
    // target that was removed is reported for one day. An hour, because Microsoft's data is a day late: an update or a reboot
    // delays no figure that matters.
    health(
      'TeamsPstnExporterDown',
      'critical',
      |||
        up == 0 and on (job, instance) %(seen)s
        or
        up{%(job)s} == 0
        or
        %(seen)s > time() - 86400 unless on (job, instance) up
      ||| % { seen: 'instance:teams_pstn_exporter:last_seen_timestamp_seconds', job: config.jobSelector },
      summary='Exporter {{ $labels.instance }} is down',
      description='Prometheus has not reached the exporter of job {{ $labels.job }} for an hour, so no budget alert of its tenants can fire. Look at its service, its log, and the targets of Prometheus.',
      hold='1h',
    ),
    // After a day, when TeamsPstnExporterDown has forgotten an exporter that was removed.
    health(
      'TeamsPstnExporterAbsent',
      'critical',
      'absent_over_time(%s[1d])' % metric('teams_pstn_exporter_build_info'),
      summary='Prometheus scrapes no exporter of Teams telephony costs',
      description='These rules are loaded, but no teams-pstn-exporter was scraped for a day. Add it to the scrape configuration, or remove the rules.',
      hold='15m',
    ),
  ],

  // Alerts that are for information only are off unless the configuration switches them on.
  local enabled(alerts) = [rule for rule in alerts if lib.enabled(config, rule.alert)],

  prometheusAlerts+:: {
    groups+: [
      lib.group(config, 'teams-pstn-money-alerts', enabled(money)),
      lib.group(config, 'teams-pstn-calls-alerts', enabled(calls)),
      lib.group(config, 'teams-pstn-exporter-alerts', enabled(exporter)),
    ],
  },
}
