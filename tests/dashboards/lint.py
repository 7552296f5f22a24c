"""The rules that dashboards keep: those of Grafana's dashboard-linter, and ours on layout, currencies, tenants and variables."""

import re
from pathlib import Path

RUNBOOKS = Path(__file__).resolve().parents[2] / "deploy/runbooks"
VARIABLES = ["datasource", "job", "instance", "only_exporter", "tenant", "currency", "usage_location"]
MATCHERS = {name: f'{name}=~"${name}"' for name in VARIABLES[1:]}
# A selector: a metric's name and what is in braces behind it. Our matchers have no braces of their own.
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
NAME = re.compile(r"\b(?:[a-z0-9_]+:)?(?:teams_pstn|process)_[a-z0-9_]+(?::[a-z0-9_]+)?|\bup\b")
# Metrics of calls, SMS and departments that have a currency, and what is recorded of them.
PRICED = re.compile(r"teams_pstn_(?:call_log|sms|department)_")
MONEY = re.compile(r"_charge\b|_budget_(?:spent|amount)\b(?!:ratio)")
# The units of Grafana that are used here; a misspelled unit would be a suffix without any meaning.
UNITS = {"none", "locale", "percentunit", "s", "bytes", "dateTimeFromNow", "dateTimeAsIso", "bool_yes_no"}


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def repeated(dashboard):
    """Titles of the panels in rows that are repeated for each currency."""
    titles, row = set(), {}
    for panel in dashboard["panels"]:
        row = panel if panel["type"] == "row" else row
        if row.get("repeat") == "currency":
            titles.add(panel["title"])
    return titles


def names(expression):
    """Names of the series in an expression: neither labels nor functions."""
    return {name for name in NAME.findall(re.sub(r'"[^"]*"', '""', expression))}


def lint(dashboard):
    """Every mistake, one text each."""
    found = []

    def rule(truth, where, what):
        if not truth:
            found.append(f"{dashboard['uid']}: {where}: {what}")

    rule(dashboard["schemaVersion"] >= 39, "dashboard", "old schema")
    rule(dashboard["editable"] is False, "dashboard", "editable")
    rule(dashboard["title"] and dashboard["description"], "dashboard", "no title or description")
    rule(dashboard["timezone"] == "utc", "dashboard", "billing periods are in UTC")
    rule("id" not in dashboard, "dashboard", "an id belongs to one Grafana")
    rule({link["type"] for link in dashboard["links"]} == {"dashboards", "link"}, "dashboard", "no links to the other dashboards and to the runbooks")
    templating(rule, dashboard)
    layout(rule, dashboard)
    for panel in panels(dashboard):
        one_panel(rule, panel, panel["title"] in repeated(dashboard))
    for text in re.findall(r'"uid": "([^"]+)"', str(dashboard).replace("'", '"')):
        rule(text in ("${datasource}", dashboard["uid"]), "dashboard", f"hard-coded uid {text}")
    return found


def templating(rule, dashboard):
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    rule(list(variables)[: len(VARIABLES)] == VARIABLES, "variables", f"{list(variables)}")
    rule((variables["datasource"]["query"], variables["datasource"]["label"]) == ("prometheus", "Data source"), "datasource", "not templated as usual")
    for name, variable in variables.items():
        current = variable.get("current")
        rule(current is None or (current.get("text") and current.get("value")), name, "current without a value")
    for name, variable in list(variables.items())[1:]:
        rule(variable["refresh"] == 2, name, "does not follow the time range")
        rule(variable["datasource"]["uid"] == "${datasource}", name, "datasource")
        rule(re.fullmatch(r"label_values\((.+), (\w+)\)|query_result\((.+)\)", variable["query"]["query"]), name, "neither label_values nor query_result")
        if variable["includeAll"]:
            rule(variable["multi"], name, "not multi")
            rule(variable["allValue"] == (".+" if name in ("job", "instance") else ".*"), name, f"allValue {variable['allValue']}")
    rule(variables["job"]["label"] == "Job" and variables["instance"]["label"] == "Instance", "variables", "labels")


def layout(rule, dashboard):
    titles = [panel["title"] for panel in panels(dashboard)]
    rule(len(titles) == len(set(titles)), "panels", "the same title twice")
    widths = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        for y in range(place["y"], place["y"] + place["h"]):
            widths.setdefault(y, []).append((place["x"], place["w"]))
        rule(("$currency" in panel["title"]) == (panel.get("repeat") == "currency") or panel["type"] != "row", panel["title"], "a row for one currency, not repeated")
    for y, cells in widths.items():
        rule(sorted(cells) and [x for x, _ in sorted(cells)] == [sum(w for _, w in sorted(cells)[:i]) for i in range(len(cells))] and sum(w for _, w in cells) == 24, f"line {y}", f"gap or overlap {cells}")


def one_panel(rule, panel, in_currency):
    title = panel["title"]
    rule(title and panel["description"].endswith("."), title, "no title or description")
    units = {panel["fieldConfig"]["defaults"]["unit"]} | {
        change["value"] for override in panel["fieldConfig"]["overrides"] for change in override["properties"] if change["id"] == "unit"
    }
    rule(units <= UNITS, title, f"units {units - UNITS}")
    rule(panel["datasource"]["uid"] == "${datasource}", title, "datasource")
    rule(panel["targets"], title, "no query")
    for link in panel.get("links", []):
        rule((RUNBOOKS / link["url"].rsplit("/", 1)[1]).exists(), title, f"no runbook {link['url']}")
    if panel["type"] == "table":
        money_columns(rule, panel, in_currency)
    elif "locale" in units:
        named = all("{{currency}}" in target["legendFormat"] for target in panel["targets"])
        rule("$currency" in title and in_currency or named, title, "an amount without its currency")
    for target in panel["targets"]:
        rule(target["datasource"]["uid"] == "${datasource}", title, "datasource")
        query(rule, title, target)


def money_columns(rule, panel, in_currency):
    """Each heading of an amount has the currency, or a column does."""
    columns = panel["transformations"][-1]["options"]
    headings = columns["renameByName"]
    rule("$only_exporter" in columns["excludeByName"] or columns["indexByName"]["instance"] == 0, panel["title"], "a column for the only exporter")
    for target in panel["targets"]:
        heading = headings[f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"]
        if MONEY.search(NAME.search(target["expr"])[0]) and not heading.startswith(("Share", "International")):
            rule(in_currency and "$currency" in heading or "currency" in headings, panel["title"], f"an amount without its currency: {heading}")


def query(rule, title, target):
    expression = target["expr"]
    where = f"{title} {target['refId']}"
    selectors = SELECTOR.findall(expression)
    bare = names(SELECTOR.sub("", expression))
    rule(selectors and not bare, where, f"without matchers: {bare}")
    for metric, matchers in selectors:
        wanted = ["job", "instance"]
        # A metric about the process, or about Graph as a whole, has no tenant.
        if not re.match(r"up$|process_|teams_pstn_(exporter|exposition|config|graph)_", metric):
            wanted.append("tenant")
        if re.search(r"_dialout_(charge|call|previous)|_budget_", metric) and "threshold" not in metric or PRICED.search(metric):
            wanted.append("currency")
        if re.match(r"teams_pstn_(dialout_(charge|calls|call_seconds)$|direct_routing_|call_log_|sms_)|currency_usage_location:", metric):
            wanted.append("usage_location")
        for label in wanted:
            rule(MATCHERS[label] in matchers, where, f"{metric} without {MATCHERS[label]}")
        if "teams_pstn_dialout_" in metric or re.search("_budget_(?!threshold)", metric) or PRICED.search(metric):
            # Every aggregation is `by` with the currency in it, or counts users.
            for function, by in re.findall(r"\b(sum|max|min|topk|count|avg) by \(([^)]*)\)", expression):
                rule("currency" in by or function == "count", where, f"{function} over currencies")
            rule(not re.search(r"\b(sum|max|min|avg|count) ?\(", expression), where, "an aggregation without `by`")
        if metric.endswith("_total"):
            rule(re.search(rf"\b(rate|increase)\({metric}\{{[^}}]*\}}\[\$__rate_interval\]\)", expression), where, "counter without rate")
        else:
            rule(metric == "process_cpu_seconds_total" or not re.search(rf"\b(rate|increase)\({re.escape(metric)}", expression), where, f"rate of a gauge {metric}")
    asked = " ".join(names(expression))
    rule(not ("_dialout_" in asked and PRICED.search(asked)), where, "the dial-out report and the call log, which has the same calls")
    added = re.search(r" [+-] ", re.sub(r'"[^"]*"', '""', expression))
    rule(not (added and "_connection_charge" in asked and re.search(r"_call_log_charge\b", asked)), where, "a charge and a connection charge, of which one may contain the other")
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        rule(re.search(rf"by \([^)]*\b{label}\b", expression), where, f"legend has {label}, the query does not")
