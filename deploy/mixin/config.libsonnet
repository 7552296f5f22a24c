{
  _config+:: {
    // Matchers for every metric of the exporter, if one Prometheus scrapes more than these rules are for:
    // 'job="teams-pstn-exporter"'.
    selector: '',

    // Jobs of exporters, known even before the first successful scrape.
    jobSelector: 'job=~"teams-pstn.*"',

    // Page of an alert by its name.
    runbookURL: 'https://github.com/teams-pstn-exporter/teams-pstn-exporter/blob/main/deploy/runbooks/%s.md',

    // Alerts by name: false leaves out an alert, and the recording rules that only this alert needs. These two are for
    // information only.
    optionalAlerts: {
      TeamsPstnFirstInternationalSpend: false,
      TeamsPstnUsersAggregated: false,
    },

    // For how long alerts fire on without data, as in a restart: those on figures, and those on the exporter's own health.
    keepFiring: { figures: '1h', health: '10m' },

    // How often rules are evaluated; null is the global interval of Prometheus.
    evaluationInterval: null,

    // Metrics and labels of each report, and its value of the label report. labels are all except for currency and the
    // labels of the target; with the label levels of a sum they say which ones are added up.
    reports: {
      dialout: {
        name: 'dialout',
        charge: 'teams_pstn_dialout_charge',
        calls: 'teams_pstn_dialout_calls',
        call_seconds: 'teams_pstn_dialout_call_seconds',
        previous_charge: 'teams_pstn_dialout_previous_charge',
        previous_calls: 'teams_pstn_dialout_previous_calls',
        previous_call_seconds: 'teams_pstn_dialout_previous_call_seconds',
        labels: ['user', 'usage_location', 'destination_context'],
      },
      callLog: {
        name: 'call_log',
        charge: 'teams_pstn_call_log_charge',
        calls: 'teams_pstn_call_log_calls',
        previous_charge: 'teams_pstn_call_log_previous_charge',
        previous_connection_charge: 'teams_pstn_call_log_previous_connection_charge',
        previous_calls: 'teams_pstn_call_log_previous_calls',
        previous_call_seconds: 'teams_pstn_call_log_previous_call_seconds',
        labels: ['user', 'usage_location', 'destination_context', 'destination', 'call_type', 'license_capability', 'number_type'],
      },
      directRouting: {
        name: 'direct_routing',
        calls: 'teams_pstn_direct_routing_calls',
        failed_calls: 'teams_pstn_direct_routing_failed_calls',
        labels: ['user', 'usage_location', 'call_type', 'sip_code_class', 'trunk'],
      },
      sms: { name: 'sms' },
    },
  },
}
