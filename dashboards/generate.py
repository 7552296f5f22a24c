#!/usr/bin/env python3
"""Writes the dashboards, so that what they have in common is said once. `--check` only compares."""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

# Labels that every query selects by. `tenant` also matches a missing label, because a single tenant may have no name.
TARGET = 'job=~"$job", instance=~"$instance"'
TENANT = TARGET + ', tenant=~"$tenant"'
CURRENCY = TENANT + ', currency=~"$currency"'
LOCATION = CURRENCY + ', usage_location=~"$usage_location"'
DIALOUT = TENANT + ', report="dialout"'
LOGS = TENANT + ', report=~"call_log|direct_routing|sms|blocked_users"'
# Direct routing has no currency.
PLACE = TENANT + ', usage_location=~"$usage_location"'
CALLS = LOCATION + ', call_type=~"$call_type"'
# Amounts of different currencies are never added up, nor those of different exporters or tenants.
BY = "job, instance, tenant, currency"

# Colours that hold in the light and the dark theme and for the colour-blind.
BLUE, ORANGE, GREEN, YELLOW, RED, GREY = "#3274d9", "#e0752d", "#37872d", "#e0b400", "#c4162a", "#8e8e8e"


def dashboard(uid, title, description, rows, variables=(), time_from="now-30d", money=("dialout",)):
    panels, y, number = [], 0, 0
    for row_title, *row in rows:
        number += 1
        panels.append(
            {"type": "row", "id": number, "title": row_title, "collapsed": False, "panels": [], "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}}
        )
        y, x, height = y + 1, 0, 0
        for panel in row:
            number += 1
            width, height_here = panel.pop("_size")
            if x + width > 24:
                x, y, height = 0, y + height, 0
            panel |= {"id": number, "gridPos": {"h": height_here, "w": width, "x": x, "y": y}}
            panels.append(panel)
            x, height = x + width, max(height, height_here)
        y += height
    links = [
        {"type": "dashboards", "title": "Teams telephony", "tags": ["teams-pstn"], "asDropdown": True, "includeVars": True,
         "keepTime": False, "icon": "external link", "tooltip": "", "url": "", "targetBlank": False}
    ]  # fmt: skip
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["teams-pstn"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "5m",
        "time": {"from": time_from, "to": "now"},
        "timepicker": {},
        # Billing periods are of UTC.
        "timezone": "utc",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "annotations": {"list": []},
        "links": links,
        "templating": {"list": [datasource(), *common_variables(money), *variables]},
        "panels": panels,
    }


def datasource():
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "regex": "", "hide": 0,
            "multi": False, "includeAll": False, "refresh": 1, "options": [], "skipUrlSync": False}  # fmt: skip


def variable(name, label, query, all_value=".*", description="", **more):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "description": description,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "regex": "",
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": all_value,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "skipUrlSync": False,
    } | more


def common_variables(money):
    """`money` names the families of charges that the dashboard is about."""
    report = "teams_pstn_report_up"
    charge = "|".join(f"teams_pstn_{family}_charge" for family in money)
    charged = f'__name__=~"{charge}"'
    # A budget may be of a report that the dashboard is not about.
    budgeted = f'__name__=~"{charge}|teams_pstn_budget_amount"'
    return [
        # If the exporter itself cannot report anything, Prometheus still has the metrics about it.
        variable("job", "Job", "label_values(teams_pstn_exporter_build_info, job)", ".+"),
        variable("instance", "Instance", 'label_values(teams_pstn_exporter_build_info{job=~"$job"}, instance)', ".+"),
        variable("tenant", "Tenant", f"label_values({report}{{{TARGET}}}, tenant)", description="Empty where tenants are not named."),
        variable("currency", "Currency", f"label_values({{{budgeted}, {TENANT}}}, currency)"),
        variable(
            "usage_location", "Usage location", f"label_values({{{charged}, {CURRENCY}}}, usage_location)",
            description="The country of who pays, which is not the one called. Budgets and forecasts are of all of them.",
        ),
    ]  # fmt: skip


def target(expression, legend="", ref="A", instant=False, table=False, interval=None):
    query = {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": " ".join(expression.split()),
        "legendFormat": legend or "__auto",
        "instant": instant or table,
        "range": not (instant or table),
        "format": "table" if table else "time_series",
    }
    if interval:
        query["interval"] = interval
    return query


def panel(kind, title, description, unit, targets, size, *, options=None, custom=None, overrides=(), transformations=(), no_value=None, **defaults):
    for letter, query in zip("ABCDEFGH", targets):
        query["refId"] = letter
    defaults = {"unit": unit, "mappings": [], "thresholds": steps((None, GREEN)), **defaults}
    if custom is not None:
        defaults["custom"] = custom
    if no_value:
        defaults["noValue"] = no_value
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options or {},
        "transformations": list(transformations),
        "_size": size,
    }


def stat(title, description, unit, targets, size=(4, 4), *, background=False, name=True, **more):
    more.setdefault("color", {"mode": "thresholds"} if background else {"mode": "fixed", "fixedColor": "text"})
    return panel(
        "stat", title, description, unit, targets, size,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "orientation": "auto",
            "textMode": "value_and_name" if name else "value", "wideLayout": True, "justifyMode": "auto",
            "colorMode": "background" if background else "value", "graphMode": "none", "showPercentChange": False,
        },
        **more,
    )  # fmt: skip


def bars(title, description, unit, targets, size, **more):
    more.setdefault("color", {"mode": "fixed", "fixedColor": BLUE})
    return panel(
        "bargauge", title, description, unit, targets, size,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "orientation": "horizontal",
            "displayMode": "basic", "valueMode": "text", "namePlacement": "left", "showUnfilled": True, "sizing": "auto",
            "minVizWidth": 8, "minVizHeight": 16, "maxVizHeight": 60,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        },
        **more,
    )  # fmt: skip


def lines(title, description, unit, targets, size=(12, 8), *, style="line", stack=False, step=False, overrides=(), **more):
    more.setdefault("min", 0)
    more.setdefault("color", {"mode": "palette-classic"})
    return panel(
        "timeseries", title, description, unit, targets, size,
        options={
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        custom={
            "drawStyle": style, "lineWidth": 1 if style == "bars" else 2, "fillOpacity": 60 if style == "bars" else 0,
            "lineInterpolation": "stepAfter" if step else "linear", "showPoints": "never", "spanNulls": False,
            "stacking": {"mode": "normal" if stack else "none", "group": "A"}, "axisLabel": "", "axisPlacement": "auto",
            "scaleDistribution": {"type": "linear"}, "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        },
        overrides=overrides, **more,
    )  # fmt: skip


def table(title, description, columns, targets, size, *, sort=None, hide=(), no_value=None, **more):
    """Columns: name of a label or Value #A → title, unit, width. Rows are joined by the labels that the queries share."""
    # Last, as most have a single one.
    columns = columns | {"instance": columns.get("instance", ("Exporter", None))}
    excluded = {name: True for name in ("Time", "__name__", "job", "report", *hide) if name not in columns}
    return panel(
        "table", title, description, "none", targets, size,
        options={"showHeader": True, "cellHeight": "sm", "sortBy": sort or []},
        custom={"align": "auto", "cellOptions": {"type": "auto"}, "filterable": False, "inspect": False},
        color={"mode": "fixed", "fixedColor": "text"},
        overrides=[
            {"matcher": {"id": "byName", "options": heading}, "properties": [{"id": "unit", "value": unit}, *extra]}
            for heading, unit, *extra in columns.values() if unit
        ],
        transformations=[
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {
                "excludeByName": excluded, "includeByName": {},
                "indexByName": {name: index for index, name in enumerate(columns)},
                "renameByName": {name: heading for name, (heading, *_) in columns.items()},
            }},
        ],
        no_value=no_value, **more,
    )  # fmt: skip


def steps(*pairs):
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in pairs]}


def colour(pattern, color, *more):
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}, *more],
    }


DECIMALS = {"id": "decimals", "value": 2}
LABELS = {"tenant": ("Tenant", None), "currency": ("Currency", None)}
MONEY = "locale"  # The currency stands beside each amount, as there may be several in one panel.
LATE = "Microsoft's figures are 24 to 48 hours late."
EVERY_CHARGE = ("dialout", "call", "sms")


def total(metric, select=LOCATION, by=BY):
    return f"sum by ({by}) ({metric}{{{select}}})"


def spend_overview():
    charge = "teams_pstn_dialout_charge"
    recorded = "currency:teams_pstn_dialout_charge"
    start = "report:teams_pstn_billing_period_start_timestamp_seconds:max"
    share = f"report:teams_pstn_billing_period_elapsed:ratio{{{DIALOUT}}}"

    def same_day(days):
        return f"""
            {recorded}:sum{{{CURRENCY}}} offset {days}d
            and on (job, instance, tenant)
            ({start}{{{DIALOUT}}} - {start}{{{DIALOUT}}} offset {days}d == {days * 86400})"""

    # Whatever the length of the previous period: the moment is as far from its start as now is from ours.
    at_same_day = " or ".join(same_day(days) for days in (31, 30, 29, 28))
    name = "{{tenant}} {{currency}}"
    period = [
        stat("As of", f"When the figures were fetched. {LATE}", "dateTimeFromNow",
             [target(f"max by (job, instance, tenant) (teams_pstn_report_last_success_timestamp_seconds{{{DIALOUT}}} > 0) * 1000", "{{tenant}}", instant=True)],
             no_value="never"),
        stat("Billing period from", "The start of the period that all figures here belong to, in UTC.", "dateTimeAsIso",
             [target(f"max by (job, instance, tenant) (teams_pstn_billing_period_start_timestamp_seconds{{{DIALOUT}}}) * 1000", "{{tenant}}", instant=True)], (5, 4)),
        stat("Days left", "Until the billing period ends.", "d",
             [target(f"max by (job, instance, tenant) (report:teams_pstn_billing_period_remaining:seconds{{{DIALOUT}}}) / 86400", "{{tenant}}", instant=True)], (3, 4), decimals=1),
        stat("Spent so far", "Charges of the billing period in each currency, connection fees included. Currencies are never added up.", MONEY,
             [target(total(charge), name, instant=True)], (12, 4), decimals=2, no_value="No charges yet"),
    ]  # fmt: skip
    budget_steps = steps((None, GREEN), (0.5, YELLOW), (0.8, ORANGE), (1, RED))
    budgets = [
        bars("Budgets", "Share of each budget that is spent, 100 % is all of it. A budget may be of another report than dialling out. Not filtered by usage location: a budget has its own selectors.", "percentunit",
             [target(f"max by (job, instance, tenant, budget, currency) (budget:teams_pstn_budget_spent:ratio{{{CURRENCY}}})", "{{tenant}} {{budget}} ({{currency}})", instant=True)],
             (12, 7), min=0, max=1.2, decimals=1, thresholds=budget_steps, color={"mode": "thresholds"},
             no_value="No budgets in the exporter's configuration"),
        table("Budgets in figures", "What the configuration allows, what is spent of it, and where it ends at the pace of the period so far. The forecast is withheld during the first 5 % of the period.",
              LABELS | {"budget": ("Budget", None), "Value #A": ("Budget amount", MONEY, DECIMALS), "Value #B": ("Spent", MONEY, DECIMALS),
                        "Value #C": ("Left", MONEY, DECIMALS), "Value #D": ("Forecast", MONEY, DECIMALS)},
              [target(f"{function} by (job, instance, tenant, budget, currency) ({expression})", table=True) for function, expression in (
                  ("max", f"teams_pstn_budget_amount{{{CURRENCY}}}"),
                  ("max", f"teams_pstn_budget_spent{{{CURRENCY}}}"),
                  ("max", f"teams_pstn_budget_amount{{{CURRENCY}}} - teams_pstn_budget_spent{{{CURRENCY}}}"),
                  ("max", f"budget:teams_pstn_budget_spent:forecast{{{CURRENCY}}}"))],
              (12, 7), no_value="No budgets in the exporter's configuration"),
    ]  # fmt: skip
    forecast = [
        table("Forecast", "Expected spend at the end of the period: the spend so far over the share of the period that is over, and a band of two standard deviations of the last seven days. Withheld during the first 5 % of the period; the band needs three days of history. All usage locations.",
              LABELS | {"Value #A": ("Spent", MONEY, DECIMALS), "Value #B": ("Low", MONEY, DECIMALS), "Value #C": ("Forecast", MONEY, DECIMALS), "Value #D": ("High", MONEY, DECIMALS)},
              [target(f"max by ({BY}) ({recorded}:{suffix}{{{CURRENCY}}})", table=True) for suffix in ("sum", "forecast_lower", "forecast", "forecast_upper")],
              (12, 9), no_value="Withheld during the first 5 % of the period"),
        lines("Spend and forecast", "Charges so far and where the period ends, with its band. Falls back to zero where a new period begins, and by as much as Microsoft corrects. All usage locations.", MONEY,
              [target(f"max by ({BY}) ({recorded}:sum{{{CURRENCY}}})", f"{name} spent"),
               target(f"max by ({BY}) ({recorded}:forecast{{{CURRENCY}}})", f"{name} forecast"),
               target(f"max by ({BY}) ({recorded}:forecast_lower{{{CURRENCY}}})", f"{name} low"),
               target(f"max by ({BY}) ({recorded}:forecast_upper{{{CURRENCY}}})", f"{name} high")],
              (12, 9), decimals=2, overrides=[
                  {"matcher": {"id": "byRegexp", "options": "/(low|high)$/"}, "properties": [{"id": "custom.lineWidth", "value": 1}, {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [4, 6]}}]},
              ]),
        lines("Spend per day", "What the 24 hours before brought, by currency: each bar stands at the midnight (UTC) that ends its day. Corrections show as nothing, not as negative spend. All usage locations.", MONEY,
              [target(f"max by ({BY}) ({recorded}:increase1d{{{CURRENCY}}})", name, interval="1d")], (24, 8), style="bars", decimals=2),
    ]  # fmt: skip
    context = "currency_destination_context:teams_pstn_dialout"
    place = "currency_usage_location:teams_pstn_dialout"
    contexts = [
        bars("Domestic and international", "Each destination's share of the spend in its currency. All usage locations.", "percentunit",
             [target(f"max by ({BY}, destination_context) ({context}_charge:ratio{{{CURRENCY}}})", f"{name} {{{{destination_context}}}}", instant=True)],
             (8, 9), min=0, max=1, decimals=0, overrides=[colour("/International/", ORANGE)], no_value="No charges yet"),
        lines("Domestic and international over time", "Charges of the billing period by destination.", MONEY,
              [target(total(charge, by=f"{BY}, destination_context"), f"{name} {{{{destination_context}}}}")], (16, 9), decimals=2),
    ]  # fmt: skip
    location = ', usage_location=~"$usage_location"'
    places = [
        table("By usage location", "Charges, calls and minutes by the organizer's country, which is not the country that was called.",
              {"tenant": ("Tenant", None), "usage_location": ("Usage location", None), "currency": ("Currency", None),
               "Value #A": ("Charge", MONEY, DECIMALS), "Value #B": ("Calls", "locale"), "Value #C": ("Minutes", "locale", {"id": "decimals", "value": 0}),
               "Value #D": ("Of its currency", "percentunit", {"id": "decimals", "value": 1})},
              [target(f"max by ({BY}, usage_location) ({expression})", table=True) for expression in (
                  f"{place}_charge:sum{{{CURRENCY}{location}}}",
                  f"{place}_calls:sum{{{CURRENCY}{location}}}",
                  f"{place}_call_seconds:sum{{{CURRENCY}{location}}} / 60",
                  f"{place}_charge:sum{{{CURRENCY}{location}}} / on ({BY}) group_left () ({recorded}:sum{{{CURRENCY}}} > 0)")],
              (12, 9), sort=[{"displayName": "Charge", "desc": True}], no_value="No charges yet"),
        lines("By usage location over time", "Charges of the billing period by the organizer's country.", MONEY,
              [target(f"max by ({BY}, usage_location) ({place}_charge:sum{{{CURRENCY}{location}}})", f"{name} {{{{usage_location}}}}")], (12, 9), decimals=2),
    ]  # fmt: skip
    previous = "currency:teams_pstn_dialout_previous_charge:sum"
    before = [
        table("Against the previous period", "The current and the previous period: its charges at the same day (if Prometheus keeps them that long; the default is 15 days), pro rata for the time elapsed, and final. All usage locations.",
              LABELS | {"Value #A": ("Now", MONEY, DECIMALS), "Value #B": ("Same day, previous", MONEY, DECIMALS), "Value #C": ("Previous, pro rata", MONEY, DECIMALS),
                        "Value #D": ("Previous, final", MONEY, DECIMALS), "Value #E": ("Vs. previous (pro rata)", "percentunit", {"id": "decimals", "value": 0})},
              [target(f"max by ({BY}) ({expression})", table=True) for expression in (
                  f"{recorded}:sum{{{CURRENCY}}}",
                  at_same_day,
                  f"{previous}{{{CURRENCY}}} * on (job, instance, tenant) group_left () {share}",
                  f"{previous}{{{CURRENCY}}}",
                  f"{recorded}:sum{{{CURRENCY}}} / on ({BY}) ({previous}{{{CURRENCY}}} * on (job, instance, tenant) group_left () {share} > 0)")],
              (12, 8), no_value="No figures of the previous period"),
        lines("This period and the previous one", "Charges so far, and those of the previous period at its same day. The latter needs a Prometheus that keeps more than 31 days. All usage locations.", MONEY,
              [target(f"max by ({BY}) ({recorded}:sum{{{CURRENCY}}})", f"{name} this period"),
               target(f"max by ({BY}) ({at_same_day})", f"{name} the one before")], (12, 8), decimals=2,
              overrides=[{"matcher": {"id": "byRegexp", "options": "/before$/"}, "properties": [{"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}}]}]),
    ]  # fmt: skip
    return dashboard(
        "teams-pstn-spend-overview", "Teams telephony: spend overview",
        "What dialling out of Microsoft Teams meetings has cost in this billing period, and whether it will last. The same calls are in the log of all calls too: never add the two.",
        [("Now", *period), ("Budgets", *budgets), ("Forecast and days", *forecast),
         ("Domestic and international", *contexts), ("Countries", *places), ("Previous period", *before)],
    )  # fmt: skip


def organizers():
    charge, calls, seconds = (f"teams_pstn_dialout_{what}" for what in ("charge", "calls", "call_seconds"))
    hidden = "Users are not exported (labels.user: none), or no user has spent anything"
    people = LOCATION + ', user!="", user!="__other__"'
    by = f"{BY}, user"

    def person(metric, select=people):
        return f"sum by ({by}) ({metric}{{{select}}})"

    def top(select=people):
        return f"topk by ({BY}) (10, {person(charge, select)} > 0)"

    exported = stat(
        "Users with a name", "How many users have figures of their own. Zero where the exporter leaves users out, and then there is nothing else to see here: labels.user is none.", "none",
        [target(f"count by (job, instance, tenant) (count by (job, instance, tenant, user) ({charge}{{{people}}}))"
                f" or 0 * count by (job, instance, tenant) ({charge}{{{LOCATION}}})", "{{tenant}}", instant=True)],
        (6, 4), no_value="No charges yet",
        mappings=[{"type": "value", "options": {"0": {"text": "Users are not exported", "color": ORANGE, "index": 0}}}],
    )  # fmt: skip
    share = bars("Share of the top ten", "Share of the ten organizers with the highest charges in the spend of each currency.", "percentunit",
                 [target(f"sum by ({BY}) ({top()}) / on ({BY}) (sum by ({BY}) ({charge}{{{LOCATION}}}) > 0)", "{{tenant}} {{currency}}", instant=True)],
                 (12, 4), min=0, max=1, decimals=0, no_value=hidden)  # fmt: skip
    aggregated = stat("Aggregated series", "Series beyond labels.max_series, the smallest charges, are aggregated into one user; no sum changes.", "none",
                  [target(f"max by (job, instance, tenant) (teams_pstn_report_aggregated_series{{{DIALOUT}}})", "{{tenant}}", instant=True)], (6, 4))  # fmt: skip
    ranking = {
        "tenant": ("Tenant", None), "user": ("Organizer", None), "currency": ("Currency", None),
        "Value #A": ("Charge", MONEY, DECIMALS), "Value #B": ("Calls", "locale"), "Value #C": ("Minutes", "locale", {"id": "decimals", "value": 0}),
        "Value #D": ("Per minute", MONEY, {"id": "decimals", "value": 3}), "Value #E": ("Per call", MONEY, DECIMALS),
        "Value #F": ("International", "percentunit", {"id": "decimals", "value": 0}),
    }  # fmt: skip
    order = [{"displayName": "Currency", "desc": False}, {"displayName": "Charge", "desc": True}]
    abroad = people + ', destination_context="International"'

    def ranked(select):
        chosen = top(select)
        return [
            target(chosen, table=True),
            target(f"{person(calls, select)} and on ({by}) {chosen}", table=True),
            target(f"{person(seconds, select)} / 60 and on ({by}) {chosen}", table=True),
            target(f"{person(charge, select)} / ({person(seconds, select)} / 60 > 0) and on ({by}) {chosen}", table=True),
            target(f"{person(charge, select)} / ({person(calls, select)} > 0) and on ({by}) {chosen}", table=True),
        ]

    top_ten = table("Top ten organizers", "The ten organizers with the highest charges in each currency. Charges are booked on the organizer of the meeting, whichever participant dialled. Minutes are those charged and those within the licence.",
                    ranking, [*ranked(people), target(f"(({person(charge, abroad)} or 0 * {person(charge)}) / ({person(charge)} > 0)) and on ({by}) {top()}", table=True)],
                    (24, 14), sort=order, no_value=hidden)  # fmt: skip
    top_abroad = table("Top ten of international calls", "The ten organizers whose meetings cost most by calls abroad, in each currency.",
                       {name: column for name, column in ranking.items() if name != "Value #F"}, ranked(abroad),
                       (24, 14), sort=order, no_value=hidden)  # fmt: skip
    one = LOCATION + ', user="$user", user!=""'
    name = "{{tenant}} {{currency}} {{destination_context}}"
    more = f"{BY}, destination_context"
    history = [
        lines("Charge of $user", "One organizer's charges of the billing period by destination; falls back to zero where a new period begins.", MONEY,
              [target(f"sum by ({more}) ({charge}{{{one}}})", name)], (12, 9), decimals=2, no_value=hidden),
        lines("Calls of $user", "One organizer's calls of the billing period by destination.", "none",
              [target(f"sum by ({more}) ({calls}{{{one}}})", name)], (6, 9), no_value=hidden),
        lines("Minutes of $user", "One organizer's minutes of the billing period by destination.", "m",
              [target(f"sum by ({more}) ({seconds}{{{one}}}) / 60", name)], (6, 9), no_value=hidden),
    ]  # fmt: skip
    user = variable(
        "user", "Organizer", f'label_values({charge}{{{people}}}, user)', description="Whose history is shown.",
        multi=False, includeAll=False, allValue=None,
    )  # fmt: skip
    # Chosen when the dashboard is opened: the first user.
    del user["current"]
    return dashboard(
        "teams-pstn-organizers", "Teams telephony: organizers",
        "Whose meetings cost what. Names are as labels.user of the exporter's configuration says, or none.",
        [("Who", exported, share, aggregated), ("Ranking", top_ten, top_abroad), ("One person", *history)], [user],
    )  # fmt: skip


def calls():
    charge, connection, number, seconds = (f"teams_pstn_call_log_{what}" for what in ("charge", "connection_charge", "calls", "call_seconds"))
    routed, failed, routed_seconds = (f"teams_pstn_direct_routing_{what}" for what in ("calls", "failed_calls", "call_seconds"))
    name = "{{tenant}} {{currency}}"
    overlap = "Dialling out of meetings is among them (conf_out) and in the report of dialling out too: never add the two."
    off = "Not switched on (reports: call_log), or no calls yet"
    up = [{"type": "value", "options": {"0": {"text": "failing", "color": RED, "index": 0}, "1": {"text": "fine", "color": GREEN, "index": 1}}}]
    whole, minutes = {"id": "decimals", "value": 0}, {"id": "decimals", "value": 0}

    def by(*labels):
        return ", ".join((BY, *labels))

    state = [
        stat("Last polls", "Whether the last poll of each log succeeded. What is missing here is not among the reports of the configuration.", "none",
             [target(f"max by (job, instance, tenant, report) (teams_pstn_report_up{{{LOGS}}})", "{{tenant}} {{report}}", instant=True)],
             (8, 5), background=True, thresholds=steps((None, RED), (1, GREEN)), mappings=up, no_value="None of the logs is switched on (reports)"),
        stat("As of", f"When the figures of each log were fetched. {LATE}", "dateTimeFromNow",
             [target(f"max by (job, instance, tenant, report) (teams_pstn_report_last_success_timestamp_seconds{{{LOGS}}} > 0) * 1000", "{{tenant}} {{report}}", instant=True)],
             (8, 5), no_value="never"),
        stat("Billing period from", "The start of the period that the figures belong to, in UTC.", "dateTimeAsIso",
             [target(f"max by (job, instance, tenant, report) (teams_pstn_billing_period_start_timestamp_seconds{{{LOGS}}}) * 1000", "{{tenant}} {{report}}", instant=True)],
             (8, 5), no_value="none yet"),
    ]  # fmt: skip
    figures = {"Value #A": ("Charge", MONEY, DECIMALS), "Value #B": ("Connection charge", MONEY, DECIMALS), "Value #C": ("Calls", "locale", whole), "Value #D": ("Minutes", "locale", minutes)}
    by_charge = [{"displayName": "Currency", "desc": False}, {"displayName": "Charge", "desc": True}]

    def four(*labels, only=""):
        return [target(f"sum by ({by(*labels)}) ({metric}{{{CALLS}}}){per}{only}", table=True)
                for metric, per in ((charge, ""), (connection, ""), (number, ""), (seconds, " / 60"))]  # fmt: skip

    period = [
        table("Calls of this period", f"Charges and connection charges stand apart, because Microsoft does not say whether one contains the other. {overlap}",
              LABELS | figures | {"Value #E": ("Previous period", MONEY, DECIMALS), "Value #F": ("Its connection charge", MONEY, DECIMALS), "Value #G": ("Its calls", "locale", whole)},
              [*four(), *(target(f"sum by ({BY}) (teams_pstn_call_log_previous_{what}{{{CALLS}}})", table=True) for what in ("charge", "connection_charge", "calls"))],
              (24, 6), no_value=off),
        lines("Charge per day", f"What the 24 hours before brought, by currency: each bar stands at the midnight (UTC) that ends its day. {LATE} All usage locations and call types.", MONEY,
              [target(f"max by ({BY}) (currency:teams_pstn_call_log_charge:increase1d{{{CURRENCY}}})", name, interval="1d")], (12, 8), style="bars", decimals=2, no_value=off),
        lines("Charge and connection charge", "So far in the billing period; both fall back to zero where a new one begins.", MONEY,
              [target(f"sum by ({BY}) ({charge}{{{CALLS}}})", f"{name} charge"), target(f"sum by ({BY}) ({connection}{{{CALLS}}})", f"{name} connection charge")],
              (12, 8), decimals=2, no_value=off),
    ]  # fmt: skip
    chosen = f"topk by ({BY}) (10, sum by ({by('destination')}) ({charge}{{{CALLS}}}))"
    destinations = [
        table("Top ten destinations", "The ten countries or regions with the highest charges in each currency, as the source names them.",
              {"tenant": ("Tenant", None), "destination": ("Destination", None), "currency": ("Currency", None)} | figures
              | {"Value #E": ("Of its currency", "percentunit", {"id": "decimals", "value": 1})},
              [target(chosen, table=True), *four("destination", only=f" and on ({by('destination')}) {chosen}")[1:],
               target(f"{chosen} / on ({BY}) group_left () (sum by ({BY}) ({charge}{{{CALLS}}}) > 0)", table=True)],
              (14, 11), sort=by_charge, no_value=off),
        table("Destinations with rising cost", "The five countries with the highest charges in the last 24 hours, and their most expensive 24 hours of the week before. All usage locations and call types.",
              {"tenant": ("Tenant", None), "destination": ("Destination", None), "currency": ("Currency", None),
               "Value #A": ("Last 24 hours", MONEY, DECIMALS), "Value #B": ("Highest before", MONEY, DECIMALS)},
              [target(f"topk by ({BY}) (5, max by ({by('destination')}) (currency_destination:teams_pstn_call_log_charge:increase1d{{{CURRENCY}}}) > 0)", table=True),
               target(f"max by ({by('destination')}) (currency_destination:teams_pstn_call_log_charge:max7d_increase1d{{{CURRENCY}}})"
                      f" and on ({by('destination')}) topk by ({BY}) (5, max by ({by('destination')}) (currency_destination:teams_pstn_call_log_charge:increase1d{{{CURRENCY}}}) > 0)", table=True)],
              (10, 11), sort=[{"displayName": "Last 24 hours", "desc": True}], no_value="Nothing was charged, or the rules have not run for a day"),
        bars("Domestic and international calls", "Each destination context's share of the charges in its currency; what comes in mostly has none (unknown).", "percentunit",
             [target(f"sum by ({by('destination_context')}) ({charge}{{{CALLS}}}) / on ({BY}) group_left () (sum by ({BY}) ({charge}{{{CALLS}}}) > 0)", f"{name} {{{{destination_context}}}}", instant=True)],
             (8, 9), min=0, max=1, decimals=0, overrides=[colour("/International/", ORANGE)], no_value=off),
        lines("Charge by destination", "The five destinations with the highest charges at the end of the graph.", MONEY,
              [target(f"sum by ({by('destination')}) ({charge}{{{CALLS}}}) and on ({by('destination')}) topk by ({BY}) (5, sum by ({by('destination')}) ({charge}{{{CALLS}}} @ end()))",
                      f"{name} {{{{destination}}}}")], (16, 9), decimals=2, no_value=off),
    ]  # fmt: skip
    direction = 'label_replace({0}, "direction", "$1", "call_type", "(?:.*_)?(in|out)(?:_.*)?")'
    kinds = [
        table("By call type", f"user: people; conf: conferences; ucap: bots, queues and attendants. {overlap}",
              {"tenant": ("Tenant", None), "call_type": ("Call type", None), "currency": ("Currency", None)} | figures,
              four("call_type"), (12, 9), sort=by_charge, no_value=off),
        table("By licence", "Which licence paid: MCOPSTNPP are Communications Credits, MCOPSTN1 and others calling plans, MCOMEETADD audio conferencing.",
              {"tenant": ("Tenant", None), "license_capability": ("Licence", None), "currency": ("Currency", None)} | figures,
              four("license_capability"), (12, 9), sort=by_charge, no_value=off),
        lines("Charge by call type", "So far in the billing period.", MONEY,
              [target(f"sum by ({by('call_type')}) ({charge}{{{CALLS}}})", f"{name} {{{{call_type}}}}")], (12, 9), decimals=2, no_value=off),
        lines("Charge by licence", "So far in the billing period.", MONEY,
              [target(f"sum by ({by('license_capability')}) ({charge}{{{CALLS}}})", f"{name} {{{{license_capability}}}}")], (12, 9), decimals=2, no_value=off),
        table("In and out", "Calls and minutes by direction, as the name of the call type says it.",
              {"tenant": ("Tenant", None), "direction": ("Direction", None), "currency": ("Currency", None),
               "Value #A": ("Calls", "locale", whole), "Value #B": ("Minutes", "locale", minutes)},
              [target(f"sum by ({by('direction')}) ({direction.format(f'{metric}{{{CALLS}}}')}){per}", table=True) for metric, per in ((number, ""), (seconds, " / 60"))],
              (8, 9), sort=[{"displayName": "Calls", "desc": True}], no_value=off),
        lines("Calls by call type", "So far in the billing period.", "none",
              [target(f"sum by ({by('call_type')}) ({number}{{{CALLS}}})", f"{name} {{{{call_type}}}}")], (8, 9), no_value=off),
        lines("Minutes by call type", "So far in the billing period. Minutes within a plan cost nothing and still use it up.", "m",
              [target(f"sum by ({by('call_type')}) ({seconds}{{{CALLS}}}) / 60", f"{name} {{{{call_type}}}}")], (8, 9), no_value=off),
    ]  # fmt: skip
    callers = CALLS + ', user!="", user!="__other__"'

    def person(metric):
        return f"sum by ({by('user')}) ({metric}{{{callers}}})"

    ten = f"topk by ({BY}) (10, {person(charge)} > 0)"
    people = [
        table("Top ten users", "The ten people whose calls cost most in each currency; of conferences it is the organizer.",
              {"tenant": ("Tenant", None), "user": ("User", None), "currency": ("Currency", None)} | figures,
              [target(ten, table=True), *(target(f"{person(metric)}{per} and on ({by('user')}) {ten}", table=True)
                                          for metric, per in ((connection, ""), (number, ""), (seconds, " / 60")))],
              (24, 12), sort=by_charge, no_value="Users are not exported (labels.user: none), or no user has spent anything"),
    ]  # fmt: skip
    trunk = "job, instance, tenant, trunk"
    unused = "Not switched on (reports: direct_routing), or no calls yet"
    routing = [
        bars("Direct routing: calls that succeeded", "Of all direct routing calls of the period, by trunk. Busy and unanswered calls count as failed; a call counts as succeeded if the source does not say whether it did.", "percentunit",
             [target(f"1 - sum by ({trunk}) ({failed}{{{PLACE}}}) / on ({trunk}) (sum by ({trunk}) ({routed}{{{PLACE}}}) > 0)", "{{tenant}} {{trunk}}", instant=True)],
             (8, 8), min=0, max=1, decimals=1, thresholds=steps((None, RED), (0.5, ORANGE), (0.8, GREEN)), color={"mode": "thresholds"}, no_value=unused),
        table("Direct routing: failures by SIP code", "Failed calls by class of the final SIP code: 5xx points to the session border controller or the carrier, 4xx and 6xx also are busy, declined and unknown numbers.",
              {"tenant": ("Tenant", None), "trunk": ("Trunk", None), "sip_code_class": ("SIP code", None), "Value #A": ("Calls", "locale", whole), "Value #B": ("Of the trunk's calls", "percentunit", {"id": "decimals", "value": 1})},
              [target(f"sum by ({trunk}, sip_code_class) ({failed}{{{PLACE}}} > 0)", table=True),
               target(f"sum by ({trunk}, sip_code_class) ({failed}{{{PLACE}}} > 0) / on ({trunk}) group_left () (sum by ({trunk}) ({routed}{{{PLACE}}}) > 0)", table=True)],
              (16, 8), sort=[{"displayName": "Calls", "desc": True}], no_value="No call has failed, or direct_routing is not among the reports"),
        lines("Direct routing: failures of the last 24 hours", "Share of the calls that arrived within 24 hours, by trunk. All usage locations.", "percentunit",
              [target(f"max by ({trunk}) (trunk:teams_pstn_direct_routing_calls:failure_ratio1d{{{TENANT}}})", "{{tenant}} {{trunk}}")], (12, 9), max=1, decimals=1, no_value=unused),
        lines("Direct routing: failures by SIP code over time", "So far in the billing period.", "none",
              [target(f"sum by (job, instance, tenant, sip_code_class) ({failed}{{{PLACE}}} > 0)", "{{tenant}} {{sip_code_class}}")], (12, 9), no_value="No call has failed, or direct_routing is not among the reports"),
        table("Direct routing by trunk and call type", "Calls and minutes of this billing period, and the calls of the one before. There are no charges: the carrier bills them.",
              {"tenant": ("Tenant", None), "trunk": ("Trunk", None), "call_type": ("Call type", None),
               "Value #A": ("Calls", "locale", whole), "Value #B": ("Minutes", "locale", minutes), "Value #C": ("Calls, previous period", "locale", whole)},
              [target(f"sum by ({trunk}, call_type) ({metric}{{{PLACE}}}){per}", table=True) for metric, per in ((routed, ""), (routed_seconds, " / 60"), ("teams_pstn_direct_routing_previous_calls", ""))],
              (24, 8), sort=[{"displayName": "Calls", "desc": True}], no_value=unused),
    ]  # fmt: skip
    silent = "Not switched on (reports: sms), or no messages yet"
    messages = [
        table("SMS", "Messages, the units that they were split into, and what they cost.",
              {"tenant": ("Tenant", None), "direction": ("Direction", None), "currency": ("Currency", None),
               "Value #A": ("Messages", "locale", whole), "Value #B": ("Units", "locale", whole), "Value #C": ("Charge", MONEY, DECIMALS), "Value #D": ("Charge, previous period", MONEY, DECIMALS)},
              [target(f"sum by ({by('direction')}) (teams_pstn_sms_{what}{{{LOCATION}}})", table=True) for what in ("messages", "units", "charge", "previous_charge")],
              (12, 8), no_value=silent),
        lines("SMS over time", "Messages so far in the billing period, by direction.", "none",
              [target(f"sum by ({by('direction')}) (teams_pstn_sms_messages{{{LOCATION}}})", f"{name} {{{{direction}}}}")], (12, 8), no_value=silent),
    ]  # fmt: skip
    no_blocks = "Not switched on (reports: blocked_users)"
    blocked = [
        stat("Blocked users", "Users whose newest event of the last 89 days is a block: they cannot call the telephone network. Who they are, the Teams admin center says.", "none",
             [target(f"max by (job, instance, tenant) (teams_pstn_blocked_users{{{TENANT}}})", "{{tenant}}", instant=True)],
             (6, 8), background=True, thresholds=steps((None, GREEN), (1, RED)), no_value=no_blocks),
        table("Blocks of this period", "Events by kind and reason. High Overall Usage is Microsoft's guard against fraud.",
              {"tenant": ("Tenant", None), "event": ("Event", None), "reason": ("Reason", None), "Value #A": ("Events", "locale", whole)},
              [target(f"sum by (job, instance, tenant, event, reason) (teams_pstn_blocked_users_events{{{TENANT}}})", table=True)],
              (9, 8), sort=[{"displayName": "Events", "desc": True}], no_value="None, or blocked_users is not among the reports"),
        lines("Blocked users over time", "Falls when a user is unblocked, and when a block is older than 89 days.", "none",
              [target(f"max by (job, instance, tenant) (teams_pstn_blocked_users{{{TENANT}}})", "{{tenant}} blocked")], (9, 8), step=True, no_value=no_blocks),
    ]  # fmt: skip
    call_type = variable("call_type", "Call type", f"label_values({number}{{{LOCATION}}}, call_type)", description="Of the call log. Dialling out of meetings is conf_out.")
    return dashboard(
        "teams-pstn-calls", "Teams telephony: calls",
        "Calls, direct routing, SMS and blocked users of this billing period, from the logs that the configuration switches on (reports). Dialling out of meetings is in the call log too.",
        [("Now", *state), ("Calls", *period), ("Destinations", *destinations), ("Call types and licences", *kinds), ("Users", *people),
         ("Direct routing", *routing), ("SMS", *messages), ("Blocked users", *blocked)], [call_type], money=("call", "sms"),
    )  # fmt: skip


def exporter_health():
    tenant = "{{tenant}} {{report}}"
    by = "job, instance, tenant, report"
    up = [{"type": "value", "options": {"0": {"text": "failing", "color": RED, "index": 0}, "1": {"text": "fine", "color": GREEN, "index": 1}}}]
    state = [
        stat("Exporter", "Whether Prometheus reaches the exporter.", "none",
             [target(f"max by (job, instance) (up{{{TARGET}}} and on (job, instance) (teams_pstn_exporter_build_info{{{TARGET}}} or last_over_time(teams_pstn_exporter_build_info{{{TARGET}}}[1h])))", "{{instance}}", instant=True)],
             background=True, thresholds=steps((None, RED), (1, GREEN)), no_value="not scraped",
             mappings=[{"type": "value", "options": {"0": {"text": "down", "index": 0}, "1": {"text": "up", "index": 1}}}]),
        stat("Last poll", "Whether the last poll of each report succeeded. After a failure the figures are those of the last success.", "none",
             [target(f"max by ({by}) (teams_pstn_report_up{{{TENANT}}})", tenant, instant=True)],
             (8, 4), background=True, thresholds=steps((None, RED), (1, GREEN)), mappings=up, no_value="none yet"),
        stat("Age of the figures", "Time since the newest complete report was asked for. More than two intervals are too old.", "s",
             [target(f"max by ({by}) (report:teams_pstn_report_last_success:age_seconds{{{TENANT}}})", tenant, instant=True)], (6, 4), decimals=0, no_value="never fetched"),
        stat("Credential expires", "When the certificate ends, or the secret where the configuration says it.", "dateTimeFromNow",
             [target(f"min by (job, instance, tenant) (teams_pstn_credential_expiry_timestamp_seconds{{{TENANT}}}) * 1000", "{{tenant}}", instant=True)], (6, 4), no_value="not known"),
    ]  # fmt: skip
    table_of_reports = [
        table("Reports", "Each report of each tenant: they are fetched side by side, and one may fail where another succeeds. Days that no longer change are kept as totals and not fetched again; a report of one answer has none.",
              {"tenant": ("Tenant", None), "report": ("Report", None),
               "Value #A": ("Last poll succeeded", "bool_yes_no"), "Value #B": ("Newest figures", "dateTimeFromNow"), "Value #C": ("Period from", "dateTimeAsIso"),
               "Value #D": ("Rows", "locale"), "Value #E": ("Pages", "locale"), "Value #F": ("Final days", "locale"), "Value #G": ("Aggregated series", "locale"),
               "Value #H": ("Last poll took", "s", {"id": "decimals", "value": 1})},
              [target(f"max by ({by}) ({expression})", table=True) for expression in (
                  f"teams_pstn_report_up{{{TENANT}}}",
                  f"teams_pstn_report_last_success_timestamp_seconds{{{TENANT}}} > 0",
                  f"teams_pstn_billing_period_start_timestamp_seconds{{{TENANT}}}",
                  f"teams_pstn_report_rows{{{TENANT}}}",
                  f"teams_pstn_report_pages{{{TENANT}}}",
                  f"teams_pstn_report_final_windows{{{TENANT}}}",
                  f"teams_pstn_report_aggregated_series{{{TENANT}}}",
                  f"teams_pstn_report_duration_seconds{{{TENANT}}}")],
              (24, 9), sort=[{"displayName": "Report", "desc": False}], no_value="None yet"),
    ]  # fmt: skip
    for query in table_of_reports[0]["targets"][1:3]:
        # Grafana's dates are milliseconds.
        query["expr"] += " * 1000"
    polls = [
        lines("Age of the figures over time", "A saw that falls with each success; one that only rises is a report that fails.", "s",
              [target(f"max by ({by}) (report:teams_pstn_report_last_success:age_seconds{{{TENANT}}})", tenant)]),
        lines("Polls", "Polls within each step of the graph.", "none",
              [target(f"sum by ({by}) (increase(teams_pstn_report_polls_total{{{TENANT}}}[$__rate_interval]))", tenant)], style="bars", stack=True, decimals=1),
        lines("Failures by reason", "Failed polls within each step of the graph; the exporter's page says what to do. Reasons that do not occur stay at zero.", "none",
              [target(f"sum by ({by}, reason) (increase(teams_pstn_report_failures_total{{{TENANT}}}[$__rate_interval]))", tenant + " {{reason}}")], style="bars", stack=True, decimals=1),
        lines("Duration of a poll", "All pages and retries of the newest poll.", "s",
              [target(f"max by ({by}) (teams_pstn_report_duration_seconds{{{TENANT}}})", tenant)]),
        lines("Requests to Microsoft Graph", "By status code; 429 is throttling, and none is no answer.", "none",
              [target(f"sum by (job, instance, code) (increase(teams_pstn_graph_requests_total{{{TARGET}}}[$__rate_interval]))", "{{code}}")], style="bars", stack=True, decimals=1),
        lines("Repeated requests", "By reason: throttling, time-outs, broken connections, refused tokens. Some are normal and cost nothing but time.", "none",
              [target(f"sum by (job, instance, reason) (increase(teams_pstn_graph_retries_total{{{TARGET}}}[$__rate_interval]))", "{{reason}}")], style="bars", stack=True, decimals=1),
    ]  # fmt: skip
    reports = [
        lines("Rows", "Rows of the newest complete report. Rows that are not counted are apart: their time is outside the period and far from the window that they came with.", "none",
              [target(f"max by ({by}) (teams_pstn_report_rows{{{TENANT}}})", tenant),
               target(f"max by ({by}) (teams_pstn_report_unplaced_rows{{{TENANT}}})", tenant + " not counted")], (6, 7), step=True),
        lines("Pages", "Pages of the newest complete report; Microsoft's have a thousand rows.", "none", [target(f"max by ({by}) (teams_pstn_report_pages{{{TENANT}}})", tenant)], (6, 7), step=True),
        lines("Final days", "Days of the period that are old enough not to change and are not fetched again. It starts at zero with each period; a log that stays at zero is fetched whole with every poll.", "none", [target(f"max by ({by}) (teams_pstn_report_final_windows{{{TENANT}}})", tenant)], (6, 7), step=True),
        lines("Aggregated series", "Series beyond labels.max_series, summed up as user __other__. No sum changes.", "none", [target(f"max by ({by}) (teams_pstn_report_aggregated_series{{{TENANT}}})", tenant)], (6, 7), step=True),
        lines("Series exposed", "Series of all reports together.", "none", [target(f"max by (job, instance) (teams_pstn_exposition_series{{{TARGET}}})", "{{instance}}")], (8, 7), step=True),
        lines("Size of a scrape", "The report families, uncompressed. VictoriaMetrics refuses more than 16 MiB by default.", "bytes", [target(f"max by (job, instance) (teams_pstn_exposition_size_bytes{{{TARGET}}})", "{{instance}}")], (8, 7)),
        lines("Access token good for", "Time until the current access token ends; it is renewed before, so the line never reaches zero.", "s",
              [target(f"max by (job, instance, tenant) (teams_pstn_token_expiry_timestamp_seconds{{{TENANT}}}) - time()", "{{tenant}} {{instance}}")], (8, 7)),
    ]  # fmt: skip
    process = [
        lines("Memory", "Resident memory of the exporter.", "bytes", [target(f"max by (job, instance) (process_resident_memory_bytes{{{TARGET}}} and on (job, instance) teams_pstn_exporter_build_info{{{TARGET}}})", "{{instance}}")], (8, 7)),
        lines("Processor", "Share of one processor core.", "percentunit", [target(f"max by (job, instance) (rate(process_cpu_seconds_total{{{TARGET}}}[$__rate_interval]) and on (job, instance) teams_pstn_exporter_build_info{{{TARGET}}})", "{{instance}}")], (8, 7)),
        lines("File descriptors", "Open ones.", "none", [target(f"max by (job, instance) (process_open_fds{{{TARGET}}} and on (job, instance) teams_pstn_exporter_build_info{{{TARGET}}})", "{{instance}}")], (8, 7)),
        table("Version and configuration", "What runs, and whether the last reload of its configuration was accepted.",
              {"instance": ("Exporter", None), "version": ("Version", None), "revision": ("Revision", None), "rustc": ("Compiler", None),
               "Value #B": ("Last reload accepted", "bool_yes_no"), "Value #C": ("Configuration read", "dateTimeFromNow")},
              [target(f"max by (job, instance, version, revision, rustc) (teams_pstn_exporter_build_info{{{TARGET}}})", table=True),
               target(f"max by (job, instance) (teams_pstn_config_last_reload_successful{{{TARGET}}})", table=True),
               target(f"max by (job, instance) (teams_pstn_config_last_reload_success_timestamp_seconds{{{TARGET}}}) * 1000", table=True)],
              (24, 5), hide=("Value #A",)),
    ]  # fmt: skip
    return dashboard(
        "teams-pstn-exporter-health", "Teams telephony: exporter health",
        "Whether the figures arrive: polls, failures, age, credentials, and the exporter itself.",
        [("State", *state, *table_of_reports), ("Polls", *polls), ("Size", *reports), ("The process", *process)], time_from="now-2d",
        money=EVERY_CHARGE,
    )  # fmt: skip


def main():
    changed = []
    for name, made in [("spend-overview", spend_overview()), ("organizers", organizers()), ("calls", calls()), ("exporter-health", exporter_health())]:
        path = FOLDER / f"{name}.json"
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if not path.exists() or path.read_text() != text:
            changed.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if changed and "--check" in sys.argv:
        sys.exit(f"not in step with generate.py: {' '.join(changed)}")


if __name__ == "__main__":
    main()
