"""Every panel, drawn by Grafana's libraries (render.py), shows something, and all of it."""

import json
import os
import shutil
import time
from functools import partial

import lint
import render
import variables
from stack import ROOT, skip_part


def drawn(check, send, stack, prometheus, exporters, dashboards):
    """Every panel, drawn by Grafana's libraries, shows something, and all of it."""
    if not shutil.which("chromium"):
        return skip_part("pictures: chromium is not here")
    if not render.bundle(stack.work):
        return
    planted(check, stack, next(dashboard for dashboard in dashboards if dashboard["uid"] == "teams-pstn-spend-overview"))
    instance = exporters["nameless"]
    for dashboard in dashboards:
        selection = {"instance": instance}
        if dashboard["uid"] == "teams-pstn-organizers":
            highest = prometheus.query(f'topk(1, sum by (user) (teams_pstn_dialout_charge{{instance="{instance}", currency="USD"}}))')
            selection["user"] = highest[0][0]["user"]
        for name, found, values in variables.chosen(dashboard, selection, partial(variables.values_of, prometheus)):
            if name == "currency":
                currencies = found[:1]
        now = time.time()
        is_health = dashboard["uid"] == "teams-pstn-exporter-health"
        if is_health:
            # So that no time is written at the right end, which would cut it.
            now = (now - 28) // 30 * 30 + 28
        start = now - 120 if is_health else now // 86400 * 86400 - 13 * 86400

        def answer(panel, target):
            of = exporters["pools"] if "teams_pstn_pool_" in target["expr"] else instance
            expression = variables.replaced(target["expr"], values | {"instance": of})
            if target["instant"]:
                return send(prometheus, expression, target)
            every = 86400 if target.get("interval") == "1d" else 7200
            if is_health:
                # As long as the $__rate_interval, so that a bar counts nothing twice.
                every = 20 if "$__rate_interval" in target["expr"] else 5
            found = prometheus.api("query_range", query=expression, start=start, end=now, step=every)["result"]
            return [(series["metric"], series["values"]) for series in found]

        board = variables.expanded(dashboard, currencies)
        for panel in lint.panels(board):
            panel["transformations"] = json.loads(variables.replaced(json.dumps(panel.get("transformations", [])), values))
        picture, examined = render.draw(board, answer, values, (start, now), stack.work, shutil.which("chromium"))
        shown = examined["panels"]
        check(f"{dashboard['uid']}: Grafana draws all panels", len(shown) == len(lint.panels(board)) and not examined["faults"], *examined["faults"])
        for panel in shown:
            check(f"{dashboard['uid']}: Grafana draws {panel['type']} {panel['title']}", not panel["faults"], *panel["faults"])
        if os.environ.get("UPDATE"):
            target = ROOT / "dashboards" / picture.name
            render.shrink(picture, target)
            check(f"picture of {dashboard['uid']}", 50_000 < target.stat().st_size < 300_000, target.stat().st_size)


def planted(check, stack, dashboard):
    """What is wrong with a picture is found: else it would prove nothing."""
    first = {panel["type"]: panel for panel in reversed(lint.panels(variables.expanded(dashboard, ["EUR"])))}
    stat, timeseries, table, bargauge = panels = [first[kind] for kind in ("stat", "timeseries", "table", "bargauge")]
    for panel, (x, y, w) in zip(panels, ((0, 0, 12), (12, 0, 12), (0, 4, 24), (0, 8, 12))):
        panel["gridPos"] = {"x": x, "y": y, "w": w, "h": 4}
    table["fieldConfig"]["overrides"] = [{"matcher": {"id": "byType", "options": "number"}, "properties": [{"id": "custom.minWidth", "value": 900}]}]
    bargauge["targets"][0]["legendFormat"] = 100 * "long "
    answers = {"stat": [], "timeseries": [({}, [[0, "NaN"], [60, "NaN"]])], "table": [({"report": "sms"}, [[60, "1"]])], "bargauge": [({}, [[60, "1"]])]}

    def drawn():
        board = dashboard | {"uid": "planted", "panels": panels}
        return render.draw(board, lambda panel, _: answers.get(panel["type"], [({}, [[60, "1"]])]), {}, (0, 60), stack.work, shutil.which("chromium"))[1]

    found = drawn()
    faults = {panel["type"]: panel["faults"] for panel in found["panels"]}
    check("a panel without data is found", faults["stat"] == ["no data"], faults)
    check("a panel without lines is found", faults["timeseries"] == ["nothing is drawn"], faults)
    check("columns that are cut are found", "cut or too small: Billing period since" in faults["table"], faults)
    check("a text that is cut is found", any(fault.startswith("cut or too small: long") for fault in faults["bargauge"]), faults)
    check("a row that is half empty is found", len(found["faults"]) == 1 and bargauge["title"] in found["faults"][0], found["faults"])
    stat["type"] = "gauge"
    found = drawn()
    check("an error of the page is found", not found["panels"] and any("no component for gauge" in fault for fault in found["faults"]), found)
