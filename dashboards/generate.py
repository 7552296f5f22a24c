#!/usr/bin/env python3
"""Writes the dashboards to this folder, or to the one that is named. Needs the packages of requirements.txt."""

import argparse
import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import VariableHide
from panels import FAILING_OR_OK, GREEN, MONEY, ORANGE, RED, SHARE, WHOLE, bars, board, grid, latest, lines, query, stats, texts, variable

# The oldest Grafana that the dashboards work with; its types are those of requirements.txt.
GRAFANA = "11.5.0"

# Matchers of every query. `tenant` also matches a missing label, because a single tenant may have no name.
TARGET = 'job=~"$job", instance=~"$instance"'
TENANT = TARGET + ', tenant=~"$tenant"'
CURRENCY = TENANT + ', currency=~"$currency"'
LOCATION = CURRENCY + ', usage_location=~"$usage_location"'
CALLS = LOCATION + ', call_type=~"$call_type"'
DIALOUT = TENANT + ', report="dialout"'
LOGS = TENANT + ', report=~"call_log|direct_routing|sms|blocked_users"'
# Direct routing has no currency.
ROUTED = TENANT + ', usage_location=~"$usage_location"'
ONE_USER = ', user!="", user!="__other__"'

# Figures of different exporters, tenants or currencies are never added up.
TARGETS = "job, instance, tenant"
BY = f"{TARGETS}, currency"

LATE = "Microsoft's figures are 24 to 48 hours late."
OVERLAP = "Dial-out from meetings is in the call log (conf_out) and in the dial-out report: never add up the two."
ALL_COUNTRIES = "Not filtered by usage location."
TENANT_COLUMN = {"Tenant": "tenant"}


def largest(expression, *labels):
    return f"max by ({', '.join((TARGETS, *labels))}) ({expression})"


def total(expression, *labels):
    """The sum in each currency."""
    return f"sum by ({', '.join((BY, *labels))}) ({expression})"


def top(count, expression):
    return f"topk by ({BY}) ({count}, {expression})"


def variables(charge, *more):
    """charge: the metrics that have the currencies and countries of the dashboard, as a regular expression."""
    info = "teams_pstn_exporter_build_info"
    only_exporter = variable(
        "only_exporter", "Only exporter",
        f'query_result(label_replace(count(count by (job, instance) ({info}{{{TARGET}}})) == 1, "column", "instance", "", ""))',
        description="The column that tables leave out if there is only one exporter.", all_value=None,
    )  # fmt: skip
    return [
        variable("job", "Job", f"label_values({info}, job)", all_value=".+"),
        variable("instance", "Instance", f'label_values({info}{{job=~"$job"}}, instance)', all_value=".+"),
        only_exporter.regex('/column="(.+?)"/').hide(VariableHide.HIDE_VARIABLE),
        variable("tenant", "Tenant", f"label_values(teams_pstn_report_up{{{TARGET}}}, tenant)", description="Empty if tenants have no names."),
        variable("currency", "Currency", f'label_values({{__name__=~"{charge}", {TENANT}}}, currency)'),
        variable("usage_location", "Usage location", f'label_values({{__name__=~"{charge}", {CURRENCY}}}, usage_location)',
                 description="The country of the user who pays, which is not the country that was called."),
        *more,
    ]  # fmt: skip


def freshness(title, reports, size, no_value):
    """When the figures were fetched, and which period they are of."""
    def time(metric, condition=""):
        return largest(f"{metric}{{{reports}}}{condition}", "report") + " * 1000"

    return grid(title, f"When the exporter last completed each report, the time of the report's newest row, and the start, in UTC, of the billing period that the figures belong to. The dial-out report has no times. {LATE}",
                TENANT_COLUMN | {"Report": "report",
                                 "Updated": (time("teams_pstn_report_last_success_timestamp_seconds", " > 0"), ("dateTimeFromNow", None)),
                                 "Data up to": (time("teams_pstn_report_newest_row_timestamp_seconds"), ("dateTimeFromNow", None)),
                                 "Billing period since": (time("teams_pstn_billing_period_start_timestamp_seconds"), ("dateTimeAsIso", None))},
                size=size, no_value=no_value, runbook="TeamsPstnReportStale")  # fmt: skip


def threshold_columns(of, labels, ratio):
    """The highest threshold that is reached. `of` is the prefix of its metrics; labels are those of a budget."""
    by = ", ".join((TARGETS, *labels))
    reached = f"max by ({by}, severity) ({of}_threshold_ratio{{{TENANT}}} <= on ({by}) group_left () {ratio})"
    return {"Threshold reached": (f"topk by ({by}) (1, {reached})", ("percentunit", 0)), "Severity": "severity"}


def spend_overview():
    charge, recorded = "teams_pstn_dialout_charge", "currency:teams_pstn_dialout_charge"
    start, elapsed = "report:teams_pstn_billing_period_start_timestamp_seconds:max", f"report:teams_pstn_billing_period_elapsed:ratio{{{DIALOUT}}}"
    previous = f"currency:teams_pstn_dialout_previous_charge:sum{{{CURRENCY}}}"
    name = "{{tenant}} {{currency}}"

    def record(suffix):
        return f"{recorded}:{suffix}{{{CURRENCY}}}"

    # Whatever the length of the previous period: as long after its start as it is now after the start of the current one.
    at_same_day = " or ".join(
        f"{record('sum')} offset {days}d and on ({TARGETS}) ({start}{{{DIALOUT}}} - {start}{{{DIALOUT}}} offset {days}d == {days * 86400})"
        for days in (31, 30, 29, 28)
    )
    ratio = f"budget:teams_pstn_budget_spent:ratio{{{CURRENCY}}}"
    no_budgets = "The exporter's configuration has no budgets"
    status = [
        freshness("Reports", TENANT, (18, 7), "No report is complete yet"),
        stats("Days left", "Days until the billing period ends.", "none",
              latest(largest(f"report:teams_pstn_billing_period_remaining:seconds{{{DIALOUT}}} / 86400"), "{{tenant}} dialout"), size=(6, 7), decimals=1),
    ]  # fmt: skip
    budgets = [
        grid("Budgets", f"The amount of each budget, what is spent of it, and the forecast for the end of the period at the pace so far. There is no forecast during the first 5 % of the period. A budget has its own selectors and may be of another report. {ALL_COUNTRIES}",
             TENANT_COLUMN | {"Budget": "budget", "Currency": "currency"} | {
                 heading: (largest(expression, "budget", "currency"), form) for heading, expression, form in (
                     ("Amount", f"teams_pstn_budget_amount{{{CURRENCY}}}", MONEY),
                     ("Spent", f"teams_pstn_budget_spent{{{CURRENCY}}}", MONEY),
                     ("Left", f"teams_pstn_budget_amount{{{CURRENCY}}} - teams_pstn_budget_spent{{{CURRENCY}}}", MONEY),
                     ("Forecast", f"budget:teams_pstn_budget_spent:forecast{{{CURRENCY}}}", MONEY),
                     ("Share spent", ratio, SHARE))
             } | threshold_columns("teams_pstn_budget", ("budget", "currency"), ratio),
             size=(15, 8), sort="Share spent", no_value=no_budgets, runbook="TeamsPstnBudgetThresholdReached"),
        bars("Share of each budget", "What is spent of each budget; 100 % is all of it.", "percentunit",
             latest(largest(ratio, "budget", "currency"), "{{tenant}} {{budget}} ({{currency}})"), size=(9, 8), maximum=1.2, decimals=1, no_value=no_budgets),
    ]  # fmt: skip
    per_country = {"Charge": ("charge", "", MONEY), "Calls": ("calls", "", WHOLE), "Minutes": ("call_seconds", " / 60", WHOLE)}
    location = ', usage_location=~"$usage_location"'

    def by_country(figure):
        return largest(f"currency_usage_location:teams_pstn_dialout_{figure}:sum{{{CURRENCY}{location}}}", "currency", "usage_location")

    in_currency = [
        stats("Spent so far ($currency)", "Charges of the billing period, connection fees included.", "locale",
              latest(total(f"{charge}{{{LOCATION}}}"), name), decimals=2, no_value="No charges yet"),
        stats("Forecast ($currency)", f"Charges expected at the end of the period at the pace so far. There is no forecast during the first 5 % of the period. {ALL_COUNTRIES}", "locale",
              latest(largest(record("forecast"), "currency"), name), decimals=2, no_value="No forecast yet", runbook="TeamsPstnForecastAboveBudget"),
        stats("Previous period, pro rata ($currency)", f"Charges of the previous period for the share of it that is over in the current one. {ALL_COUNTRIES}", "locale",
              latest(largest(f"{previous} * on ({TARGETS}) group_left () {elapsed}", "currency"), name), decimals=2, no_value="No previous period"),
        stats("Previous period, final ($currency)", f"All charges of the previous period. {ALL_COUNTRIES}", "locale",
              latest(largest(previous, "currency"), name), decimals=2, no_value="No previous period"),
        lines("Spend and forecast ($currency)", f"Charges so far, and the forecast with a band of two standard deviations of the last seven days; the band needs three days of history. The charges start again at zero with each billing period. {ALL_COUNTRIES}", "locale",
              *(query(largest(record(suffix), "currency"), f"{{{{tenant}}}} {label}") for suffix, label in
                (("sum", "spent"), ("forecast", "forecast"), ("forecast_lower", "lower bound"), ("forecast_upper", "upper bound"))),
              size=(12, 9), axis="$currency", decimals=2, dashed="/bound$/"),
        lines("Spend per day ($currency)", f"Charges that arrived in the 24 hours before each midnight (UTC). A correction counts as zero and not as negative spend. {ALL_COUNTRIES}", "locale",
              query(largest(record("increase1d"), "currency"), "{{tenant}} spent", interval="1d"), size=(12, 9), axis="$currency", per_step=True, decimals=2, runbook="TeamsPstnSpendSpike"),
        lines("Current and previous period ($currency)", f"Charges so far, and those at the same day of the previous period, for which Prometheus must keep more than 31 days. {ALL_COUNTRIES}", "locale",
              query(largest(record("sum"), "currency"), "{{tenant}} current period"), query(largest(at_same_day, "currency"), "{{tenant}} previous period"),
              axis="$currency", decimals=2, dashed="/previous period$/"),
        lines("Domestic and international ($currency)", "Charges so far by destination context.", "locale",
              query(total(f"{charge}{{{LOCATION}}}", "destination_context"), "{{tenant}} {{destination_context}}"), axis="$currency", decimals=2),
        grid("Usage locations ($currency)", "Charges, calls and minutes by the country of the organizer, which is not the country that was called.",
             TENANT_COLUMN | {"Usage location": "usage_location"} | {
                 heading + (" ($currency)" if form is MONEY else ""): (by_country(figure) + per, form) for heading, (figure, per, form) in per_country.items()
             } | {"Share": (f"{by_country('charge')} / on ({BY}) group_left () ({record('sum')} > 0)", SHARE)},
             size=(12, 8), sort="Charge ($currency)", no_value="No charges yet"),
        lines("Usage locations over time ($currency)", "Charges so far by the country of the organizer.", "locale",
              query(by_country("charge"), "{{tenant}} {{usage_location}}"), axis="$currency", decimals=2),
        *departments("dialout"),
    ]  # fmt: skip
    return board(
        "teams-pstn-spend-overview", "Teams telephony: spend overview",
        "What dial-out from Microsoft Teams meetings has cost in this billing period, compared with budgets and the previous period. The same calls are in the call log: never add up the two.",
        variables(charge), ("Status", *status), ("Budgets", *budgets), ("Dial-out in $currency", *in_currency),
    )  # fmt: skip


def departments(report):
    charge = f'teams_pstn_department_charge{{{CURRENCY}, report="{report}"}}'
    none = "The configuration has no departments"
    return [
        grid("Departments ($currency)", "Charges by the department of the user who pays. Users who are not in the departments file are unmapped.",
             TENANT_COLUMN | {"Department": "department", "Charge ($currency)": (total(charge, "department"), MONEY),
                              "Share": (f"{total(charge, 'department')} / on ({BY}) group_left () ({total(charge)} > 0)", SHARE)},
             size=(12, 8), sort="Charge ($currency)", no_value=none),
        lines("Departments over time ($currency)", "Charges so far by department.", "locale",
              query(total(charge, "department"), "{{tenant}} {{department}}"), axis="$currency", decimals=2, no_value=none),
    ]  # fmt: skip


def organizers():
    charge, calls, seconds = (f"teams_pstn_dialout_{figure}" for figure in ("charge", "calls", "call_seconds"))
    hidden = "No user has charges, or users are not exported (labels.user: none)"
    people = LOCATION + ONE_USER
    abroad = people + ', destination_context="International"'

    def person(metric, select=people):
        return total(f"{metric}{{{select}}}", "user")

    def ranking(select):
        ten = top(10, f"{person(charge, select)} > 0")
        minutes = f"{person(seconds, select)} / 60"
        chosen = f"and on ({BY}, user) {ten}"
        return TENANT_COLUMN | {
            "Organizer": "user",
            "Charge ($currency)": (ten, MONEY),
            "Calls": (f"{person(calls, select)} {chosen}", WHOLE),
            "Minutes": (f"{minutes} {chosen}", WHOLE),
            "Per minute ($currency)": (f"{person(charge, select)} / ({minutes} > 0) {chosen}", ("locale", 3)),
            "Per call ($currency)": (f"{person(charge, select)} / ({person(calls, select)} > 0) {chosen}", MONEY),
        }

    international = f"({person(charge, abroad)} or 0 * {person(charge)}) / ({person(charge)} > 0) and on ({BY}, user) {top(10, f'{person(charge)} > 0')}"
    link = {"Organizer": "/d/teams-pstn-organizers?${job:queryparam}&${instance:queryparam}&${tenant:queryparam}&${currency:queryparam}&var-user=${__value.text:percentencode}"}
    status = [
        stats("Users with figures", "Users who have figures of their own. It is zero if the exporter does not export users (labels.user: none), and then this dashboard has nothing else to show.", "none",
              latest(f"count by ({TARGETS}) (count by ({TARGETS}, user) ({charge}{{{people}}})) or 0 * count by ({TARGETS}) ({charge}{{{LOCATION}}})", "{{tenant}} users"),
              size=(8, 4), no_value="No charges yet", mappings=[texts(_0=("Users are not exported", ORANGE))]),
        stats("Share of the top ten", "Share of the ten organizers with the highest charges in the charges of each currency.", "percentunit",
              latest(f"{total(top(10, f'{person(charge)} > 0'))} / on ({BY}) ({total(f'{charge}{{{LOCATION}}}')} > 0)", "{{tenant}} {{currency}}"), size=(8, 4), decimals=0, no_value=hidden),
        stats("Aggregated series", "Label combinations that are aggregated into the user __other__, because there are more than labels.max_series. Sums do not change.", "none",
              latest(largest(f"teams_pstn_report_aggregated_series{{{DIALOUT}}}"), "{{tenant}} dialout"), size=(8, 4), runbook="TeamsPstnUsersAggregated"),
    ]  # fmt: skip
    rankings = [
        grid("Top ten organizers ($currency)", "The ten organizers with the highest charges. A call is charged to the organizer of the meeting, whichever participant dialed out. Minutes include those within the licence.",
             ranking(people) | {"International": (international, ("percentunit", 0))}, size=(24, 12), sort="Charge ($currency)", links=link, no_value=hidden),
        grid("Top ten of international calls ($currency)", "The ten organizers with the highest charges for international calls.",
             ranking(abroad), size=(24, 12), sort="Charge ($currency)", links=link, no_value=hidden, runbook="TeamsPstnFirstInternationalSpend"),
    ]  # fmt: skip
    one = LOCATION + ', user="$user", user!=""'
    history = [
        lines(f"{heading} of $user", f"{heading} of one organizer by destination context. They start again at zero with each billing period.", unit,
              query(f"{total(f'{metric}{{{one}}}', 'destination_context')}{per}", "{{tenant}} {{destination_context}} ({{currency}})"),
              size=(8, 9), decimals=decimals, no_value=hidden)
        for heading, metric, per, unit, decimals in (("Charges", charge, "", "locale", 2), ("Calls", calls, "", "none", 0), ("Minutes", seconds, " / 60", "none", 0))
    ]  # fmt: skip
    user = variable("user", "Organizer", f"label_values({charge}{{{people}}}, user)", description="The organizer whose history is shown.", all_value=None)
    return board(
        "teams-pstn-organizers", "Teams telephony: organizers",
        "Whose meetings cost how much by dial-out. The exporter's setting labels.user decides how organizers are named, if at all.",
        variables(charge, user), ("Status", *status), ("Top organizers in $currency", *rankings), ("One organizer: $user", *history),
    )  # fmt: skip


def calls():
    charge, connection, number, seconds = (f"teams_pstn_call_log_{figure}" for figure in ("charge", "connection_charge", "calls", "call_seconds"))
    off = "No calls yet, or call_log is not switched on (reports)"
    figures = {"Charge ($currency)": (charge, "", MONEY), "Connection charge ($currency)": (connection, "", MONEY), "Calls": (number, "", WHOLE), "Minutes": (seconds, " / 60", WHOLE)}

    def four(*labels, select=CALLS, only=""):
        return {heading: (f"{total(f'{metric}{{{select}}}', *labels)}{per}{only}", form) for heading, (metric, per, form) in figures.items()}

    def by(title, description, heading, label, size):
        return grid(f"{title} ($currency)", description, TENANT_COLUMN | {heading: label} | four(label), size=size, sort="Charge ($currency)", no_value=off)

    status = [
        stats("Last polls", "Whether the last poll of each log succeeded. A log that is missing here is not switched on (reports).", "none",
              latest(largest(f"teams_pstn_report_up{{{LOGS}}}", "report"), "{{tenant}} {{report}}"), size=(6, 6), colored=True, steps=((None, RED), (1, GREEN)),
              mappings=[FAILING_OR_OK], no_value="No log is switched on (reports)", runbook="TeamsPstnReportFailing"),
        freshness("Logs", LOGS, (18, 6), "No log is switched on (reports)"),
    ]  # fmt: skip
    ten = top(10, total(f"{charge}{{{CALLS}}}", "destination"))
    rising = top(5, f"{largest(f'currency_destination:{charge}:increase1d{{{CURRENCY}}}', 'currency', 'destination')} > 0")
    callers = top(10, f"{total(f'{charge}{{{CALLS}{ONE_USER}}}', 'user')} > 0")
    shares = f"{total(f'{charge}{{{CALLS}}}', 'destination_context')} / on ({BY}) group_left () ({total(f'{charge}{{{CALLS}}}')} > 0)"
    compared = {"Dial-out charge ($currency)": ("charge:sum", "", MONEY), "Minus call log ($currency)": ("charge:difference", "", MONEY),
                "Minus call log and connection charges ($currency)": ("charge:difference_with_connection", "", MONEY),
                "Calls": ("calls:sum", "", WHOLE), "Calls minus call log": ("calls:difference", "", WHOLE),
                "Minutes": ("call_seconds:sum", " / 60", WHOLE), "Minutes minus call log": ("call_seconds:difference", " / 60", ("locale", 1))}  # fmt: skip
    in_currency = [
        grid("Current and previous period ($currency)", f"Charges and connection charges are separate, because Microsoft does not say whether one contains the other. {OVERLAP}",
             TENANT_COLUMN | four() | {f"Previous {heading[0].lower()}{heading[1:]}": (f"{total(f'teams_pstn_call_log_previous_{figure}{{{CALLS}}}')}", form)
                                       for heading, figure, form in (("Charge ($currency)", "charge", MONEY), ("Connection charge ($currency)", "connection_charge", MONEY), ("Calls", "calls", WHOLE))},
             size=(24, 5), no_value=off),
        lines("Charges per day ($currency)", "Charges that arrived in the 24 hours before each midnight (UTC). Not filtered by usage location and call type.", "locale",
              query(largest(f"currency:{charge}:increase1d{{{CURRENCY}}}", "currency"), "{{tenant}} charges", interval="1d"), axis="$currency", per_step=True, decimals=2, no_value=off, runbook="TeamsPstnSpendSpike"),
        lines("Charges and connection charges ($currency)", "Charges so far. They start again at zero with each billing period.", "locale",
              query(total(f"{charge}{{{CALLS}}}"), "{{tenant}} charge"), query(total(f"{connection}{{{CALLS}}}"), "{{tenant}} connection charge"), axis="$currency", decimals=2, no_value=off),
        grid("Top ten destinations ($currency)", "The ten countries or regions with the highest charges.",
             TENANT_COLUMN | {"Destination": "destination"} | four("destination", only=f" and on ({BY}, destination) {ten}")
             | {"Share": (f"{ten} / on ({BY}) group_left () ({total(f'{charge}{{{CALLS}}}')} > 0)", SHARE)}, size=(14, 12), sort="Charge ($currency)", no_value=off),
        grid("Destinations with rising cost ($currency)", "The five destinations with the highest charges in the last 24 hours, and the highest charges of 24 hours in the week before. Not filtered by usage location and call type.",
             TENANT_COLUMN | {"Destination": "destination", "Last 24 hours ($currency)": (rising, MONEY),
                              "Highest before ($currency)": (f"{largest(f'currency_destination:{charge}:max7d_increase1d{{{CURRENCY}}}', 'currency', 'destination')} and on ({BY}, destination) {rising}", MONEY)},
             size=(10, 12), sort="Last 24 hours ($currency)", no_value="No charges, or the rules have run for less than a day", runbook="TeamsPstnDestinationSpendSpike"),
        bars("Domestic and international ($currency)", "Share of each destination context in the charges. Incoming calls have none (unknown).", "percentunit",
             latest(shares, "{{tenant}} {{destination_context}}"), size=(8, 9), decimals=0, no_value=off),
        lines("Top five destinations over time ($currency)", "Charges so far of the five destinations with the highest charges at the end of the time range.", "locale",
              query(f"{total(f'{charge}{{{CALLS}}}', 'destination')} and on ({BY}, destination) {top(5, total(f'{charge}{{{CALLS}}} @ end()', 'destination'))}", "{{tenant}} {{destination}}"),
              size=(16, 9), axis="$currency", decimals=2, no_value=off),
        by("Call types", f"user: calls of people; conf: conferences; ucap: bots, call queues and auto attendants. {OVERLAP}", "Call type", "call_type", (12, 8)),
        by("Licences", "The licence that paid: MCOPSTNPP is Communications Credits, MCOPSTN1 and the like are calling plans, MCOMEETADD is Audio Conferencing.", "Licence", "license_capability", (12, 8)),
        lines("Charges by call type ($currency)", "Charges so far by call type.", "locale", query(total(f"{charge}{{{CALLS}}}", "call_type"), "{{tenant}} {{call_type}}"), axis="$currency", decimals=2, no_value=off),
        lines("Minutes by call type ($currency)", "Minutes so far of calls in this currency. Minutes within a calling plan cost nothing, but use up the plan.", "none",
              query(total(f"{seconds}{{{CALLS}}}", "call_type") + " / 60", "{{tenant}} {{call_type}}"), decimals=0, no_value=off),
        by("Number types", "The kind of number that was used, such as a subscriber, service or toll-free number.", "Number type", "number_type", (12, 8)),
        lines("Calls without a price ($currency)", "Calls that Microsoft could not price (FREECALL): they cost nothing, as far as the call log says. Not filtered by usage location and call type.", "none",
              query(largest(f"currency:teams_pstn_call_log_free_calls:sum{{{CURRENCY}}}", "currency"), "{{tenant}} calls"), steps_only=True, decimals=0, no_value=off),
        grid("Top ten users ($currency)", "The ten users with the highest charges. Calls of a conference belong to its organizer.",
             TENANT_COLUMN | {"User": "user"} | four("user", select=CALLS + ONE_USER, only=f" and on ({BY}, user) {callers}"),
             size=(24, 12), sort="Charge ($currency)", no_value="No user has charges, users are not exported (labels.user: none), or call_log is not switched on (reports)"),
        *departments("call_log"),
        grid("Dial-out report and call log, previous period ($currency)", "The dial-out report of the previous period, and its difference to the rows of the call log for the same calls (conf_out). If the difference is zero with connection charges, the charges of the report contain them.",
             TENANT_COLUMN | {heading: (largest(f"currency:teams_pstn_dialout_previous_{figure}{{{CURRENCY}}}{per}", "currency"), form) for heading, (figure, per, form) in compared.items()},
             size=(24, 5), no_value="No previous period, or dialout and call_log are not both switched on (reports)"),
    ]  # fmt: skip
    return board(
        "teams-pstn-calls", "Teams telephony: calls",
        "Calls, included minutes, direct routing, SMS and blocked users, from the logs that are switched on (reports). Dial-out from meetings is in the call log, too.",
        variables(charge, variable("call_type", "Call type", f"label_values({number}{{{LOCATION}}}, call_type)", description="Of the call log. Dial-out from meetings is conf_out.")),
        ("Status", *status), ("Calls in $currency", *in_currency), ("Included minutes", *pools()), ("Direct routing", *direct_routing()), ("SMS", *sms()), ("Blocked users", *blocked_users()),
    )  # fmt: skip


def pools():
    used, size = f"teams_pstn_pool_used_seconds{{{TENANT}}}", f"teams_pstn_pool_size_seconds{{{TENANT}}}"
    ratio, none = f"{used} / ({size} > 0)", "No pool is configured, or its use is not known yet"
    return [
        grid("Included minutes of each pool", "Minutes that the licences include in the calendar month (UTC), and how many are used.",
             TENANT_COLUMN | {"Pool": "pool"} | {heading: (largest(expression, "pool"), form) for heading, expression, form in (
                 ("Included minutes", f"{size} / 60", WHOLE), ("Used minutes", f"{used} / 60", WHOLE), ("Minutes left", f"({size} - {used}) / 60", WHOLE), ("Share used", ratio, SHARE))}
             | threshold_columns("teams_pstn_pool", ("pool",), f"({ratio})"),
             size=(15, 8), sort="Share used", no_value=none, runbook="TeamsPstnPoolThresholdReached"),
        bars("Share of each pool", "Share of the included minutes that is used.", "percentunit",
             latest(largest(ratio, "pool"), "{{tenant}} {{pool}}"), size=(9, 8), maximum=1.2, decimals=1, no_value=none, runbook="TeamsPstnPoolRunsOut"),
    ]  # fmt: skip


def direct_routing():
    routed, failed, seconds = (f"teams_pstn_direct_routing_{figure}" for figure in ("calls", "failed_calls", "call_seconds"))
    off, none = "No calls yet, or direct_routing is not switched on (reports)", "No call has failed, or direct_routing is not switched on (reports)"
    trunk = f"{TARGETS}, trunk"
    failed_by_code = f"sum by ({trunk}, sip_code_class) ({failed}{{{ROUTED}}}) > 0"
    return [
        bars("Failed calls by trunk", "Share of failed calls in the calls of the billing period.", "percentunit",
             latest(f"sum by ({trunk}) ({failed}{{{ROUTED}}}) / on ({trunk}) (sum by ({trunk}) ({routed}{{{ROUTED}}}) > 0)", "{{tenant}} {{trunk}}"),
             size=(8, 8), decimals=1, no_value=off),
        grid("Failed calls by SIP code", "Failed calls by class of the final SIP code. 5xx points to the session border controller or the carrier; 4xx and 6xx include busy, declined and unknown numbers.",
             TENANT_COLUMN | {"Trunk": "trunk", "SIP code": "sip_code_class", "Failed calls": (failed_by_code, WHOLE),
                              "Share of the trunk's calls": (f"({failed_by_code}) / on ({trunk}) group_left () (sum by ({trunk}) ({routed}{{{ROUTED}}}) > 0)", SHARE)},
             size=(16, 8), sort="Failed calls", no_value=none),
        lines("Failed calls of the last 24 hours", "Share of failed calls in the calls that arrived within 24 hours, by trunk. Not filtered by usage location.", "percentunit",
              query(largest(f"trunk:{routed}:failure_ratio1d{{{TENANT}}}", "trunk"), "{{tenant}} {{trunk}}"), maximum=1, decimals=1, no_value=off, runbook="TeamsPstnTrunkFailing"),
        lines("Failed calls by SIP code over time", "Failed calls so far in the billing period.", "none",
              query(f"sum by ({TARGETS}, sip_code_class) ({failed}{{{ROUTED}}})", "{{tenant}} {{sip_code_class}}"), decimals=0, no_value=none),
        grid("Trunks and call types", "Calls and minutes of this billing period, and calls of the previous one. There are no charges: the carrier bills them.",
             TENANT_COLUMN | {"Trunk": "trunk", "Call type": "call_type"} | {
                 heading: (f"sum by ({trunk}, call_type) ({metric}{{{ROUTED}}}){per}", WHOLE) for heading, metric, per in (
                     ("Calls", routed, ""), ("Minutes", seconds, " / 60"), ("Previous calls", "teams_pstn_direct_routing_previous_calls", ""))},
             size=(24, 8), sort="Calls", no_value=off),
    ]  # fmt: skip


def sms():
    off = "No messages yet, or sms is not switched on (reports)"
    return [
        grid("SMS", "Messages, the units that they were split into, and their charges.",
             TENANT_COLUMN | {"Direction": "direction", "Currency": "currency"} | {
                 heading: (total(f"teams_pstn_sms_{figure}{{{LOCATION}}}", "direction"), form) for heading, figure, form in (
                     ("Messages", "messages", WHOLE), ("Units", "units", WHOLE), ("Charge", "charge", MONEY), ("Previous charge", "previous_charge", MONEY))},
             size=(12, 8), sort="Messages", no_value=off),
        lines("SMS over time", "Messages so far in the billing period.", "none",
              query(total(f"teams_pstn_sms_messages{{{LOCATION}}}", "direction"), "{{tenant}} {{direction}} ({{currency}})"), decimals=0, no_value=off),
    ]  # fmt: skip


def blocked_users():
    off, blocked = "blocked_users is not switched on (reports)", largest(f"teams_pstn_blocked_users{{{TENANT}}}")
    return [
        stats("Blocked users", "Users who cannot call the telephone network: their newest event of the last 89 days is a block.", "none",
              latest(blocked, "{{tenant}} blocked"), size=(4, 8), colored=True, steps=((None, GREEN), (1, RED)), no_value=off, runbook="TeamsPstnUserBlocked"),
        grid("Who is blocked", "Blocked users, as labels.user names them, with Microsoft's reason. High Overall Usage is Microsoft's guard against fraud.",
             TENANT_COLUMN | {"User": "user", "Reason": "reason",
                              "Since": (f"{largest(f'teams_pstn_blocked_users_since_timestamp_seconds{{{TENANT}}}', 'user', 'reason')} * 1000", ("dateTimeAsIso", None))},
             size=(9, 8), sort="Since", no_value="No user is blocked, or users are not exported (labels.user: none)"),
        grid("Events of this period", "Blocks and unblocks by reason.",
             TENANT_COLUMN | {"Event": "event", "Reason": "reason", "Events": (f"sum by ({TARGETS}, event, reason) (teams_pstn_blocked_users_events{{{TENANT}}})", WHOLE)},
             size=(6, 8), sort="Events", no_value="No events, or " + off),
        lines("Blocked users over time", "The number falls when a user is unblocked, and when a block is older than 89 days.", "none",
              query(blocked, "{{tenant}} blocked"), size=(5, 8), steps_only=True, decimals=0, no_value=off),
    ]  # fmt: skip


def exporter_health():
    name, report = "{{tenant}} {{report}}", ("report",)
    age = largest(f"report:teams_pstn_report_last_success:age_seconds{{{TENANT}}}", *report)
    info = f"teams_pstn_exporter_build_info{{{TARGET}}}"

    def of_process(expression):
        return f"max by (job, instance) ({expression} and on (job, instance) {info})"

    def increase(metric, by, select=TENANT):
        return f"sum by ({by}) (increase({metric}{{{select}}}[$__rate_interval]))"

    def gauge(metric):
        return largest(f"{metric}{{{TENANT}}}", *report)

    status = [
        stats("Exporter", "Whether Prometheus can scrape the exporter.", "none",
              latest(f"max by (job, instance) (up{{{TARGET}}} and on (job, instance) ({info} or last_over_time({info}[1h])))", "{{instance}}"),
              colored=True, steps=((None, RED), (1, GREEN)), no_value="not scraped", mappings=[texts(_0=("down", RED), _1=("up", GREEN))], runbook="TeamsPstnExporterDown"),
        stats("Last poll", "Whether the last poll of each report succeeded. After a failure, the figures are those of the last success.", "none",
              latest(gauge("teams_pstn_report_up"), name), colored=True, steps=((None, RED), (1, GREEN)), mappings=[FAILING_OR_OK], no_value="none yet", runbook="TeamsPstnReportFailing"),
        stats("Age of the figures", "Time since each report was last completed. More than two intervals are too old.", "s", latest(age, name), decimals=0, no_value="never completed", runbook="TeamsPstnReportStale"),
        stats("Credential expires", "When the certificate or the secret expires. For a secret, the configuration has to say it (client_secret_expires).", "dateTimeFromNow",
              latest(f"min by ({TARGETS}) (teams_pstn_credential_expiry_timestamp_seconds{{{TENANT}}}) * 1000", "{{tenant}} credential"), no_value="not known", runbook="TeamsPstnCredentialExpiring"),
        grid("Reports", "Each report of each tenant. Reports are fetched independently, so one may fail while another succeeds. Final days are kept as totals and not fetched again.",
             TENANT_COLUMN | {"Report": "report"} | {heading: (gauge(metric) + per, form) for heading, metric, per, form in (
                 ("Last poll succeeded", "teams_pstn_report_up", "", ("bool_yes_no", None)),
                 ("Updated", "teams_pstn_report_last_success_timestamp_seconds", " * 1000 > 0", ("dateTimeFromNow", None)),
                 ("Data up to", "teams_pstn_report_newest_row_timestamp_seconds", " * 1000", ("dateTimeFromNow", None)),
                 ("Billing period since", "teams_pstn_billing_period_start_timestamp_seconds", " * 1000", ("dateTimeAsIso", None)),
                 ("Rows", "teams_pstn_report_rows", "", WHOLE),
                 ("Pages", "teams_pstn_report_pages", "", WHOLE),
                 ("Final days", "teams_pstn_report_final_windows", "", WHOLE),
                 ("Aggregated series", "teams_pstn_report_aggregated_series", "", WHOLE),
                 ("Duration of the last poll", "teams_pstn_report_duration_seconds", "", ("s", 1)))},
             size=(24, 9), no_value="none yet"),
    ]  # fmt: skip
    graph = "job, instance"
    polls = [
        lines("Age of the figures over time", "The age falls to zero with each success. If it only rises, the report fails.", "s", query(age, name)),
        lines("Polls", "Polls in each step of the graph.", "none", query(increase("teams_pstn_report_polls_total", f"{TARGETS}, report"), name), per_step=True, decimals=1),
        lines("Failed polls by reason", "Failed polls of all reports in each step of the graph. The table shows which report failed last.", "none",
              query(increase("teams_pstn_report_failures_total", f"{TARGETS}, reason"), "{{tenant}} {{reason}}"), per_step=True, decimals=1, runbook="TeamsPstnReportFailing"),
        lines("Duration of a poll", "Time that the last poll took, with all pages and retries.", "s", query(gauge("teams_pstn_report_duration_seconds"), name)),
        lines("Requests to Microsoft Graph", "Requests by status code. 429 is throttling; none means that no answer came.", "none",
              query(increase("teams_pstn_graph_requests_total", f"{graph}, code", TARGET), "{{code}}"), per_step=True, decimals=1),
        lines("Retries", "Retried requests by reason: throttling, time-outs, broken connections, rejected tokens. A few are normal and cost only time.", "none",
              query(increase("teams_pstn_graph_retries_total", f"{graph}, reason", TARGET), "{{reason}}"), per_step=True, decimals=1),
    ]  # fmt: skip
    sizes = [
        lines("Rows", "Rows of the last complete report. Rows are not counted if their time is outside the period and far from the window in which they came.", "none",
              query(gauge("teams_pstn_report_rows"), name), query(gauge("teams_pstn_report_unplaced_rows"), name + " not counted"), size=(6, 7), steps_only=True),
        *(lines(title, description, "none", query(gauge(metric), name), size=(6, 7), steps_only=True) for title, description, metric in (
            ("Pages", "Pages of the last complete report. A page of Microsoft Graph has a thousand rows.", "teams_pstn_report_pages"),
            ("Final days", "Days of the period that can no longer change and are not fetched again. The number starts at zero with each period. If it stays at zero, each poll fetches the whole log.", "teams_pstn_report_final_windows"),
            ("Aggregated series", "Label combinations that are aggregated into the user __other__, because there are more than max_series. Sums do not change.", "teams_pstn_report_aggregated_series"))),
        lines("Exposed series", "Series of all reports together.", "none", query(f"max by (job, instance) (teams_pstn_exposition_series{{{TARGET}}})", "{{instance}}"), size=(8, 7), steps_only=True),
        lines("Size of a scrape", "Size of the metrics of all reports without compression. VictoriaMetrics rejects more than 16 MiB by default.", "bytes",
              query(f"max by (job, instance) (teams_pstn_exposition_size_bytes{{{TARGET}}})", "{{instance}}"), size=(8, 7)),
        lines("Validity of the access token", "Time until the access token expires. The exporter renews it before, so the line never reaches zero.", "s",
              query(largest(f"teams_pstn_token_expiry_timestamp_seconds{{{TENANT}}}") + " - time()", "{{tenant}} {{instance}}"), size=(8, 7)),
    ]  # fmt: skip
    process = [
        lines("Memory", "Resident memory of the exporter.", "bytes", query(of_process(f"process_resident_memory_bytes{{{TARGET}}}"), "{{instance}}"), size=(8, 7)),
        lines("CPU", "Share of one CPU core.", "percentunit", query(of_process(f"rate(process_cpu_seconds_total{{{TARGET}}}[$__rate_interval])"), "{{instance}}"), size=(8, 7)),
        lines("File descriptors", "Open file descriptors.", "none", query(of_process(f"process_open_fds{{{TARGET}}}"), "{{instance}}"), size=(8, 7)),
        grid("Version and configuration", "The version that runs, and whether it accepted its configuration when that was last reloaded.",
             {"Exporter": "instance", "Version": "version", "Revision": "revision", "Compiler": "rustc",
              "Last reload accepted": (f"max by (job, instance) (teams_pstn_config_last_reload_successful{{{TARGET}}})", ("bool_yes_no", None)),
              "Last accepted": (f"max by (job, instance) (teams_pstn_config_last_reload_success_timestamp_seconds{{{TARGET}}}) * 1000", ("dateTimeFromNow", None)),
              "Up": (f"max by (job, instance, version, revision, rustc) ({info})", ("bool_yes_no", None))},
             size=(24, 5), runbook="TeamsPstnRestartUnsafe"),
    ]  # fmt: skip
    return board(
        "teams-pstn-exporter-health", "Teams telephony: exporter health",
        "Whether current figures arrive: polls, failures, age, credentials, and the exporter itself.",
        variables("teams_pstn_(dialout|call_log|sms)_charge"), ("Status", *status), ("Polls", *polls), ("Size", *sizes), ("Process", *process), time_from="now-2d",
    )  # fmt: skip


def shared(made):
    """The form of grafana.com: an import asks for the data source, and states which Grafana and which panels are needed."""
    names = {"bargauge": "Bar gauge", "stat": "Stat", "table": "Table", "timeseries": "Time series"}
    panels = [{"type": "panel", "id": kind, "name": names[kind], "version": ""} for kind in sorted({panel["type"] for panel in made["panels"]} - {"row"})]
    made["templating"]["list"][0]["current"] = {"selected": False, "text": "${DS_PROMETHEUS}", "value": "${DS_PROMETHEUS}"}
    source = {"name": "DS_PROMETHEUS", "label": "Prometheus", "description": "", "type": "datasource", "pluginId": "prometheus", "pluginName": "Prometheus"}
    needs = [{"type": "grafana", "id": "grafana", "name": "Grafana", "version": GRAFANA}, {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"}]
    return {"__inputs": [source], "__elements": {}, "__requires": needs + panels, **made}


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--shared", action="store_true", help="write the form of grafana.com")
    options.add_argument("folder", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    chosen = options.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for name, make in {"spend-overview": spend_overview, "organizers": organizers, "calls": calls, "exporter-health": exporter_health}.items():
        made = json.loads(JSONEncoder().encode(make()))
        text = json.dumps(shared(made) if chosen.shared else made, indent=2, ensure_ascii=False)
        (chosen.folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
