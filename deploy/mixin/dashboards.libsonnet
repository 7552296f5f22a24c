// The dashboards, as dashboards/generate.py writes them.
{
  grafanaDashboards+:: {
    'teams-pstn-spend-overview.json': import '../../dashboards/spend-overview.json',
    'teams-pstn-organizers.json': import '../../dashboards/organizers.json',
    'teams-pstn-calls.json': import '../../dashboards/calls.json',
    'teams-pstn-exporter-health.json': import '../../dashboards/exporter-health.json',
  },
}
