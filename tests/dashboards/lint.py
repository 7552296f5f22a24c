"""The rules that dashboards keep: those of Grafana's dashboard-linter, and ours on currencies, tenants and variables."""

import re

VARIABLES = ["datasource", "job", "instance", "tenant", "currency", "usage_location"]
MATCHERS = {name: f'{name}=~"${name}"' for name in VARIABLES[1:]}
# A selector: a metric's name and what is in braces behind it. Our matchers have no braces of their own.
SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^{}]*)\}")
NAME = re.compile(r"\b(?:[a-z0-9_]+:)?(?:teams_pstn|process)_[a-z0-9_]+(?::[a-z0-9_]+)?|\bup\b")
# Families of the logs of calls and SMS, which have a currency, and what is recorded of them.
CALLS = re.compile(r"teams_pstn_(?:call_log|sms)_")
# The units of Grafana that are used here; a unit that is misspelt is a suffix without any meaning.
UNITS = {"none", "locale", "percentunit", "s", "m", "d", "bytes", "dateTimeFromNow", "dateTimeAsIso", "bool_yes_no"}
# The options of each kind of panel in Grafana's current schema (public/app/plugins/panel/*/panelcfg.cue, version 12). Older
# versions had more, such as the footer of tables, which newer ones drop or convert.
OPTIONS = {
    "stat": {"reduceOptions", "text", "orientation", "graphMode", "colorMode", "justifyMode", "textMode", "wideLayout", "showPercentChange", "percentChangeColorMode"},
    "bargauge": {"reduceOptions", "text", "orientation", "legend", "displayMode", "valueMode", "namePlacement", "showUnfilled", "sizing", "minVizWidth", "minVizHeight", "maxVizHeight"},
    "timeseries": {"legend", "tooltip", "timezone", "orientation"},
    "table": {"frameIndex", "showHeader", "showTypeIcons", "sortBy", "cellHeight", "enablePagination"},
}
KINDS = set(OPTIONS)


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


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
    rule(dashboard["timezone"] == "utc", "dashboard", "billing periods are of UTC")
    rule("id" not in dashboard, "dashboard", "an id belongs to one Grafana")

    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    rule(list(variables)[: len(VARIABLES)] == VARIABLES, "variables", f"{list(variables)}")
    rule((variables["datasource"]["query"], variables["datasource"]["label"]) == ("prometheus", "Data source"), "datasource", "not templated as usual")
    for name, variable in variables.items():
        current = variable.get("current")
        rule(current is None or (current.get("text") and current.get("value")), name, "current without a value")
    for name, variable in list(variables.items())[1:]:
        rule(variable["refresh"] == 2, name, "does not follow the time range")
        rule(variable["datasource"]["uid"] == "${datasource}", name, "datasource")
        rule(re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]), name, "no label_values")
        if variable["includeAll"]:
            rule(variable["multi"], name, "not multi")
            rule(variable["allValue"] == (".+" if name in ("job", "instance") else ".*"), name, f"allValue {variable['allValue']}")
    rule(variables["job"]["label"] == "Job" and variables["instance"]["label"] == "Instance", "variables", "labels")

    titles = [panel["title"] for panel in panels(dashboard)]
    rule(len(titles) == len(set(titles)), "panels", "the same title twice")
    cells = set()
    for panel in panels(dashboard):
        title = panel["title"]
        rule(panel["type"] in KINDS, title, panel["type"])
        unknown = sorted(set(panel["options"]) - OPTIONS.get(panel["type"], set()))
        rule(not unknown, title, f"not in Grafana's schema: options {unknown}")
        rule(title and panel["description"].endswith("."), title, "no title or description")
        units = {panel["fieldConfig"]["defaults"]["unit"]} | {
            change["value"] for override in panel["fieldConfig"]["overrides"] for change in override["properties"] if change["id"] == "unit"
        }
        rule(units <= UNITS, title, f"units {units - UNITS}")
        rule(panel["datasource"]["uid"] == "${datasource}", title, "datasource")
        rule(panel["targets"], title, "no query")
        place = panel["gridPos"]
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        rule(place["x"] + place["w"] <= 24 and not mine & cells, title, "overlaps")
        cells |= mine
        for target in panel["targets"]:
            rule(target["datasource"]["uid"] == "${datasource}", title, "datasource")
            query(rule, title, target)
    for text in re.findall(r'"uid": "([^"]+)"', str(dashboard).replace("'", '"')):
        rule(text in ("${datasource}", dashboard["uid"]), "dashboard", f"hard-coded uid {text}")
    return found


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
        if re.search(r"_dialout_(charge|call|previous)|_budget_", metric) or CALLS.search(metric):
            wanted.append("currency")
        if re.match(r"teams_pstn_dialout_(charge|calls|call_seconds)$|teams_pstn_direct_routing_|currency_usage_location:", metric) or CALLS.match(metric):
            wanted.append("usage_location")
        for label in wanted:
            rule(MATCHERS[label] in matchers, where, f"{metric} without {MATCHERS[label]}")
        if "teams_pstn_dialout_" in metric or "teams_pstn_budget_" in metric or CALLS.search(metric):
            # Every aggregation is `by` with the currency in it, or counts users.
            for function, by in re.findall(r"\b(sum|max|min|topk|count|avg) by \(([^)]*)\)", expression):
                rule("currency" in by or function == "count", where, f"{function} over currencies")
            rule(not re.search(r"\b(sum|max|min|avg|count) ?\(", expression), where, "an aggregation without `by`")
        if metric.endswith("_total"):
            rule(re.search(rf"\b(rate|increase)\({metric}\{{[^}}]*\}}\[\$__rate_interval\]\)", expression), where, "counter without rate")
        else:
            rule(metric == "process_cpu_seconds_total" or not re.search(rf"\b(rate|increase)\({re.escape(metric)}", expression), where, f"rate of a gauge {metric}")
    asked = " ".join(names(expression))
    rule(not ("_dialout_" in asked and CALLS.search(asked)), where, "dialling out of meetings and the log of calls, which has the same calls")
    added = re.search(r" [+-] ", re.sub(r'"[^"]*"', '""', expression))
    rule(not (added and "_connection_charge" in asked and re.search(r"_call_log_(?:previous_)?charge\b", asked)), where, "a charge and a connection charge, of which one may contain the other")
    for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
        rule(re.search(rf"by \([^)]*\b{label}\b", expression), where, f"legend names {label}, the query does not")
