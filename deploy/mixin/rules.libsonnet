// Recording rules. Names are level:metric:operation. Whatever the level says, every rule keeps job, instance, tenant (if
// tenants are named) and any further labels of the target, because all of them aggregate with `without` and join with
// `ignoring`. No rule adds up different currencies, or different reports: calls of dial-out from meetings are in two.
//
// The exporter's figures are gauges: month-to-date values of the current billing period. They fall when Microsoft corrects a
// charge and start again with the next period, so increase() and rate() must not be used on them.
local lib = import 'lib.libsonnet';
local record = lib.record, recorded = lib.recorded;

{
  local config = $._config,
  local metric(name, matchers=[]) = lib.metric(config, name, matchers),
  local reports = config.reports,
  local dialout = reports.dialout,
  local callLog = reports.callLog,
  local directRouting = reports.directRouting,
  // Reports with charges, which budgets may be about.
  local charged = 'report=~"%s"' % std.join('|', [dialout.name, callLog.name, reports.sms.name]),

  // The sum of a report's figure by the labels in levels (and currency, and those of the target).
  local sum(report, figure, levels, labels=report.labels) = record(
    recorded(levels, report[figure], 'sum'),
    'sum without (%s) (%s)' % [
      std.join(', ', std.filter(function(label) !std.member(levels, label), labels)),
      metric(report[figure]),
    ],
  ),

  // What the last 24 hours brought. Within one period: the difference to the value a day ago, never below zero, so a
  // correction shows as nothing and not as negative spend. If the period has begun since then, or the currency was not there
  // yet: the whole value. If the exporter was not scraped a day ago (just installed, or down at that time), there is no
  // result unless the period is younger than a day, because the whole month would look like one day.
  local increase1d(report, figure, levels) = record(
    recorded(levels, report[figure], 'increase1d'),
    |||
      clamp_min(
          %(sum)s
        - (%(sum)s offset 1d
           and ignoring (%(labels)s) %(start)s == %(start)s offset 1d)
        or
          %(sum)s
          and ignoring (%(labels)s)
            (%(start)s offset 1d or %(start)s > time() - 86400),
        0
      )
    ||| % {
      sum: recorded(levels, report[figure], 'sum'),
      labels: std.join(', ', levels + ['report']),
      start: lib.periodOf(report),
    },
  ),

  // The most expensive 24 hours of the seven days before the last one; from the third day of history on.
  local max7d(report) = record(
    recorded(['currency'], report.charge, 'max7d_increase1d'),
    |||
      max_over_time(%(increase)s[7d] offset 1d)
      and
      count_over_time(%(increase)s[7d:1d] offset 1d) >= 3
    ||| % { increase: recorded(['currency'], report.charge, 'increase1d') },
  ),

  local period = [
    // A copy, so that what is compared with it below comes from the same moments and the same rule file.
    record(lib.periodStart, 'max without () (%s)' % metric('teams_pstn_billing_period_start_timestamp_seconds')),
    // Share of the period that is over, 0 to 1. Stays at 1 if the period is over but the next has no report yet.
    record(
      'report:teams_pstn_billing_period_elapsed:ratio',
      |||
        clamp(
            (time() - %(start)s)
          /
            (%(end)s - %(start)s),
          0, 1
        )
      ||| % {
        start: metric('teams_pstn_billing_period_start_timestamp_seconds'),
        end: metric('teams_pstn_billing_period_end_timestamp_seconds'),
      }
    ),
    record(
      'report:teams_pstn_billing_period_remaining:seconds',
      'clamp_min(%s - time(), 0)' % metric('teams_pstn_billing_period_end_timestamp_seconds')
    ),
    // For budgets, which do not say their report: the period of all reports that have charges. The share is withheld if they
    // are not of the same period, as when one of them has failed since the last.
    record(
      'tenant:teams_pstn_billing_period_elapsed:ratio',
      |||
        max without (report) (report:teams_pstn_billing_period_elapsed:ratio{%(charged)s})
        and
        (
            max without (report) (%(start)s{%(charged)s})
          ==
            min without (report) (%(start)s{%(charged)s})
        )
      ||| % { charged: charged, start: lib.periodStart }
    ),
    record(
      'tenant:teams_pstn_billing_period_remaining:seconds',
      'max without (report) (report:teams_pstn_billing_period_remaining:seconds)'
    ),
  ],

  local figures = ['charge', 'calls', 'call_seconds'],
  local dialoutSums =
    [
      sum(dialout, figure, levels)
      for levels in [['currency'], ['currency', 'usage_location'], ['currency', 'destination_context']]
      for figure in figures
    ] + [
      // Each context's share of the spend in its currency, 0 to 1.
      record(
        'currency_destination_context:%s:ratio' % dialout.charge,
        |||
          currency_destination_context:%(charge)s:sum
          / ignoring (destination_context) group_left ()
            (currency:%(charge)s:sum > 0)
        ||| % dialout
      ),
    ] + [
      sum(dialout, 'previous_' + figure, ['currency'], labels=['usage_location', 'destination_context'])
      for figure in figures
    ],

  local forecast = [
    // By run rate: spend so far over the share of the period that is over. Withheld during the first 5 %.
    record(
      'currency:%s:forecast' % dialout.charge,
      |||
        currency:%s:sum
        / ignoring (currency, report) group_left ()
          (report:teams_pstn_billing_period_elapsed:ratio{report="%s"} >= 0.05)
      ||| % [dialout.charge, dialout.name]
    ),
    // Two standard deviations of what the remaining d days bring if days are like the last seven: sqrt(d) for the days
    // themselves, d / sqrt(7) because their mean is known from seven days only.
    record(
      'currency:%s:forecast_margin' % dialout.charge,
      |||
        2 * currency:%(charge)s:stddev7d_increase1d
        * ignoring (currency, report) group_left ()
          sqrt(
              report:teams_pstn_billing_period_remaining:seconds{report="%(name)s"} / 86400
            + (report:teams_pstn_billing_period_remaining:seconds{report="%(name)s"} / 86400) ^ 2 / 7
          )
      ||| % dialout
    ),
    record(
      'currency:%s:forecast_upper' % dialout.charge,
      'currency:%(charge)s:forecast + currency:%(charge)s:forecast_margin' % dialout
    ),
    // Never less than what is spent already.
    record(
      'currency:%s:forecast_lower' % dialout.charge,
      |||
        currency:%(charge)s:forecast - currency:%(charge)s:forecast_margin
        > currency:%(charge)s:sum
        or
          currency:%(charge)s:sum
          and currency:%(charge)s:forecast
          and currency:%(charge)s:forecast_margin
      ||| % dialout
    ),
  ],

  local budgets = [
    // 1 is all of it; a budget of zero has no ratio.
    record(
      'budget:teams_pstn_budget_spent:ratio',
      '%s / (%s > 0)' % [metric('teams_pstn_budget_spent'), metric('teams_pstn_budget_amount')]
    ),
    record(
      'budget:teams_pstn_budget_spent:forecast',
      |||
        %s
        / ignoring (budget, currency) group_left ()
          (tenant:teams_pstn_billing_period_elapsed:ratio >= 0.05)
      ||| % metric('teams_pstn_budget_spent')
    ),
  ],

  // Minutes are included by calendar month in UTC, whatever the billing period.
  local pools = [
    // Share of the calendar month that was over when the log of calls was last complete. Because the minutes used are as of
    // the same moment, those of the last month are never compared with the first days of the next.
    record(
      'report:teams_pstn_calendar_month_elapsed:ratio',
      |||
        (
            day_of_month(%(success)s > 0) - 1
          + (%(success)s > 0) %% 86400 / 86400
        )
        / days_in_month(%(success)s > 0)
      ||| % { success: metric('teams_pstn_report_last_success_timestamp_seconds', ['report="%s"' % callLog.name]) }
    ),
    // By run rate, as that of budgets.
    record(
      'pool:teams_pstn_pool_used_seconds:forecast',
      |||
        %s
        / ignoring (pool, report) group_left ()
          (report:teams_pstn_calendar_month_elapsed:ratio >= 0.05)
      ||| % metric('teams_pstn_pool_used_seconds')
    ),
  ],

  local callLogRules =
    [
      rule(callLog, figure, levels)
      for rule in [sum, increase1d]
      for levels in [['currency'], ['currency', 'destination']]
      for figure in ['charge', 'calls']
    ] + [
      max7d(callLog),
      // Of each destination, even if its history is short; computed every hour, as there may be two hundred of them.
      record(
        'currency_destination:%s:max7d_increase1d' % callLog.charge,
        'max_over_time(currency_destination:%s:increase1d[7d:1h] offset 1d)' % callLog.charge
      ),
      // Calls that Microsoft could not price, and that cost nothing as far as the log says; zero if there are none.
      record(
        'currency:teams_pstn_call_log_free_calls:sum',
        |||
          sum without (%s) (%s)
          or
          0 * currency:%s:sum
        ||| % [std.join(', ', callLog.labels), metric(callLog.calls, ['license_capability="FREECALL"']), callLog.calls]
      ),
    ],

  local directRoutingRules = [
    rule(directRouting, figure, ['trunk'])
    for rule in [sum, increase1d]
    for figure in ['calls', 'failed_calls']
  ] + [
    // Share of the calls of the last 24 hours that failed, 0 to 1. A call counts as not failed if the source does not say
    // whether it succeeded.
    record(
      'trunk:%s:failure_ratio1d' % directRouting.calls,
      'trunk:%(failed_calls)s:increase1d / (trunk:%(calls)s:increase1d > 0)' % directRouting
    ),
  ],

  // Compares the dial-out report of the previous period, which no longer changes, with the rows of the call log for the same
  // calls. Microsoft documents that the charges of the report contain connection charges, but not whether those of the log do:
  // one of the two differences of charges should be zero.
  local reconciliation =
    local inLog(figure) = recorded(['currency'], 'teams_pstn_call_log_previous_conf_out_' + figure, 'sum');
    local labels = std.filter(function(label) label != 'user', callLog.labels);
    local difference(figure, operation, subtracted) = record(
      recorded(['currency'], dialout['previous_' + figure], operation),
      |||
        %(dialout)s - (%(log)s)
        or
        %(dialout)s and ignoring (currency) %(any)s
        or
        0 - (%(log)s) and ignoring (currency) %(dialout)s
      ||| % {
        dialout: recorded(['currency'], dialout['previous_' + figure], 'sum'),
        log: subtracted,
        any: recorded(['currency'], callLog.previous_calls, 'sum'),
      }
    );
    [sum(callLog, 'previous_calls', ['currency'], labels=labels)] + [
      record(
        inLog(figure),
        'sum without (%s) (%s)' % [std.join(', ', labels), metric(callLog['previous_' + figure], ['call_type="conf_out"'])]
      )
      for figure in ['charge', 'connection_charge', 'calls', 'call_seconds']
    ] + [
      difference(figure, 'difference', inLog(figure))
      for figure in figures
    ] + [
      difference('charge', 'difference_with_connection', '%s + %s' % [inLog('charge'), inLog('connection_charge')]),
    ],

  local exporter = [
    // Age of the figures; nothing before the first success.
    record(
      'report:teams_pstn_report_last_success:age_seconds',
      'time() - (%s > 0)' % metric('teams_pstn_report_last_success_timestamp_seconds')
    ),
    // How far apart polls have been over the last day: the exporter's interval, as seen from outside.
    record(
      'report:teams_pstn_report_last_attempt:spacing_seconds',
      |||
        (
            max_over_time(%(attempt)s[1d])
          - min_over_time((%(attempt)s > 0)[1d:1m])
        )
        / (changes(%(attempt)s[1d]) > 0)
      ||| % { attempt: metric('teams_pstn_report_last_attempt_timestamp_seconds') }
    ),
  ],

  // The time at which something was last true. Each of these rules also reads its own last value, which therefore survives
  // restarts of the exporter, gaps and the retention of Prometheus. It is lost if Prometheus is down for longer than the range
  // in brackets.
  local lastSeen = [
    // When an exporter was last scraped with success, for 30 days.
    record(
      'instance:teams_pstn_exporter:last_seen_timestamp_seconds',
      |||
        max without (version, revision, rustc) (%s) * 0 + time()
        or
          last_over_time(instance:teams_pstn_exporter:last_seen_timestamp_seconds[1d]) > time() - 30 * 86400
      ||| % metric('teams_pstn_exporter_build_info')
    ),
  ],

  // Rules for the alert on a first international spend, which are left out if it is off. The first one is by far the most
  // expensive of all rules: it reads two days of samples of each user.
  local lastSeenUsers = [
    // When a user last had international spend, for 90 days.
    record(
      'user:teams_pstn_dialout_international:last_seen_timestamp_seconds',
      |||
        (
          max without (currency, usage_location, destination_context) (
            %s
          ) > 0
        ) * 0 + time()
        or
          last_over_time(user:teams_pstn_dialout_international:last_seen_timestamp_seconds[2d]) > time() - 90 * 86400
      ||| % metric(dialout.charge, lib.internationalUsers)
    ),
    // Present while there are figures of dial-out. The alert fires only if it was present a day ago, because users are recorded
    // only since its first value. Both are in one group, so that they are evaluated at the same moment.
    record(
      'tenant:teams_pstn_dialout:present',
      'group without (report) (%s)' % metric('teams_pstn_billing_period_start_timestamp_seconds', ['report="%s"' % dialout.name])
    ),
  ],

  prometheusRules+:: {
    groups+: [
      lib.group(
        config,
        'teams-pstn-spend',
        period + dialoutSums
        + [increase1d(dialout, figure, ['currency']) for figure in figures]
        + [
          max7d(dialout),
          // How much the last seven days (00:00 to 00:00 UTC) differ from each other; from the third day on.
          record(
            'currency:%s:stddev7d_increase1d' % dialout.charge,
            |||
              stddev_over_time(%(increase)s[7d:1d])
              and
              count_over_time(%(increase)s[7d:1d]) >= 3
            ||| % { increase: 'currency:%s:increase1d' % dialout.charge }
          ),
        ]
        + forecast + budgets + pools + callLogRules + reconciliation + directRoutingRules
      ),
      lib.group(config, 'teams-pstn-exporter', exporter),
      lib.group(
        config,
        'teams-pstn-last-seen',
        lastSeen + if lib.enabled(config, 'TeamsPstnFirstInternationalSpend') then lastSeenUsers else []
      ),
    ],
  },
}
