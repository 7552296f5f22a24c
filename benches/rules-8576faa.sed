# Renames the metrics and labels of a scrape to those of revision 8576faa, for benches/rules.
#
# Usage: sed -E -f benches/rules-8576faa.sed METRICS
s/,?number_type="[^"]*"//
/^teams_pstn_direct_routing_(previous_)?call/ {
  /sip_code_class="[456]/ s/,sip_code_class="[^"]*"/&,success="false"/
  /success=/! s/,sip_code_class="[^"]*"/&,success="true"/
}
s/report="call_log"/report="pstn_calls"/
s/^teams_pstn_call_log_previous_call/teams_pstn_previous_call/
s/^teams_pstn_call_log_previous_c/teams_pstn_previous_call_c/
s/^teams_pstn_call_log_call/teams_pstn_call/
s/^teams_pstn_call_log_c/teams_pstn_call_c/
s/^teams_pstn_blocked_users_events/teams_pstn_block_events/
s/^teams_pstn_report_aggregated_series/teams_pstn_report_folded_series/
s/^teams_pstn_report_final_windows/teams_pstn_report_settled_windows/
