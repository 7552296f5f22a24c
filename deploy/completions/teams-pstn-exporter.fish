# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_teams_pstn_exporter_global_optspecs
    string join \n config.file= config.check tenants.shard= web.listen-address= web.telemetry-path= web.config.file= web.systemd-socket web.max-requests= log.level= log.format= h/help V/version
end

function __fish_teams_pstn_exporter_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_teams_pstn_exporter_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_teams_pstn_exporter_using_subcommand
    set -l cmd (__fish_teams_pstn_exporter_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -s V -l version -d 'Print version'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "demo" -d 'Run against a built-in simulator of Microsoft Graph; needs no account'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "check" -d 'Check configuration, network, clock, token, permission, first page and budgets once; print a remedy for each failure'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "export" -d 'Write one report of one period as a table, once'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "backfill" -d 'Write the samples of past days in OpenMetrics, for promtool tsdb create-blocks-from openmetrics'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "pseudonym" -d 'Print the pseudonyms of users, computed with the configured key'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_needs_command" -f -a "healthcheck" -d 'Check the health of the running exporter (give it the same web flags); exit with 0 or 1'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l check.format -d 'Format of the findings' -r -f -a "text\t'One line per finding'
json\t'One JSON document'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l report -d 'The report' -r -f -a "dialout\t''
call_log\t''
direct_routing\t''
sms\t''
blocked_users\t''"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l period -d 'Export the billing period that begins in this month; the current one up to now' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l from -d 'First day in UTC, instead of a period' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l to -d 'Day in UTC after the last one' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l by -d 'Content of each line of the table' -r -f -a "row\t'One row of the report, with the properties that Graph documents'
user\t'The sum for one user and currency'
department\t'The sum for one currency and one department of departments.file'
destination\t'The sum for one destination and currency. If the report has no destinations, the sum for one destination context'
meeting\t'The sum for one conference, day, organizer and currency; only in `call_log`'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l tenant -d 'Name of the tenant; required if there are several' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l format -d 'Format of the table' -r -f -a "csv\t'Comma-separated values with a header, RFC 4180'
jsonl\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l output -d 'File to write instead of standard output; it is replaced only when the table is complete' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l require-final -d 'Exit with 1 if the figures may still change, and print the time from which they are final'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l no-numbers -d 'Leave out telephone numbers'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l report -d 'A report, may be repeated' -r -f -a "dialout\t''
call_log\t''
direct_routing\t''
sms\t''
blocked_users\t''"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l from -d 'First day in UTC' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l to -d 'Day in UTC after the last one' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l label -d 'Label of every sample, may be repeated. Give the job and instance of the scrape, so that the samples join the series that Prometheus already has' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l step -d 'Time between two samples. It must be under 5m, the lookback of Prometheus. With backfill.sh it can also be 1d, because the script repeats daily samples until the next one' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l output -d 'File to write instead of standard output; it is replaced only when all samples are complete' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l users -d 'Include the label user, with the content that labels.user selects'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand backfill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand pseudonym" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l config.file -d 'Configuration file; without it, one tenant is read from the environment. The demo accepts only a file without tenants' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l tenants.shard -d 'Poll only this share of the tenants, for example 0/3, 1/3 and 2/3 for three exporters with the same configuration' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l web.listen-address -d 'Address to listen on, may be repeated; without a host, all interfaces [default: :10053; demo: 127.0.0.1:10053]' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l web.config.file -d 'File with TLS and authentication, in the format of Prometheus\' exporter-toolkit' -r -F
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l web.max-requests -d 'Maximum number of parallel scrapes; further scrapes get 503' -r
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l log.level -d 'Lowest severity to log [default: info; demo: warn]' -r -f -a "debug\t'Every request'
info\t'Every poll'
warn\t'Events that can lead to a failure'
error\t'Failures'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l log.format -d 'Format of the log' -r -f -a "logfmt\t'`key=value`, as Prometheus does'
json\t'One JSON object per line'"
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l config.check -d 'Validate the configuration, print all errors and exit with 0 or 2'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -l web.systemd-socket -d 'Listen on the sockets that systemd passes instead of the listen address'
complete -c teams-pstn-exporter -n "__fish_teams_pstn_exporter_using_subcommand healthcheck" -s h -l help -d 'Print help (see more with \'--help\')'
