"""Draws dashboards for the README: the panels' own titles, places, units and queries, answered by Prometheus, on a page that
a real browser takes a picture of. It is no Grafana, and the page says so.
"""

import html
import math
import re
import subprocess
import time
from datetime import datetime, timezone

COLOURS = ["#3274d9", "#e0752d", "#37872d", "#8f3bb8", "#c4162a", "#0b8a8a", "#b0860b", "#5a5a5a", "#e0509a", "#7aa6e0"]
ROW = 36
STYLE = """
body { font: 13px/1.35 system-ui, sans-serif; margin: 14px; width: 1500px; background: #f4f5f5; color: #24292e }
h1 { font-size: 20px; margin: 0 } .note { color: #666; margin: 2px 0 10px }
.grid { position: relative } .panel, .row { position: absolute; box-sizing: border-box; overflow: hidden }
.panel { background: #fff; border: 1px solid #ddd; border-radius: 3px; padding: 6px 9px }
.row { font-weight: 600; padding-top: 8px } h2 { font-size: 13px; margin: 0 0 4px; font-weight: 600 }
.stats { display: flex; flex-wrap: wrap; gap: 3px 22px } .stats div { flex: none } .stats b { display: block; font-size: 22px; font-weight: 500 }
table { border-collapse: collapse; width: 100% } td, th { padding: 2px 6px; border-bottom: 1px solid #eee; text-align: left; white-space: nowrap }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums } th { color: #3274d9; font-weight: 600 }
.bar { display: grid; grid-template-columns: 170px 1fr 64px; gap: 8px; align-items: center; margin: 3px 0 }
.bar i { display: block; height: 15px; border-radius: 2px } .bar span:last-child { text-align: right }
.legend { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 11px; color: #444 } .legend i { display: inline-block; width: 10px; height: 3px; margin: 0 4px 3px 0 }
"""


def shown(value, unit, decimals=None, mappings=()):
    for mapping in mappings:
        if f"{value:g}" in mapping["options"]:
            return mapping["options"][f"{value:g}"]["text"]
    match unit:
        case "percentunit":
            return f"{100 * value:.{decimals or 0}f} %"
        case "dateTimeAsIso":
            return datetime.fromtimestamp(value / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M")
        case "dateTimeFromNow":
            away = value / 1000 - time.time()
            size, name = next((size, name) for size, name in ((31557600, "years"), (86400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds")) if abs(away) >= size or size == 1)
            amount = f"{abs(away) / size:.0f} {name}"
            return f"in {amount}" if away > 0 else f"{amount} ago"
        case "bool_yes_no":
            return "Yes" if value else "No"
        case "bytes":
            return f"{value / 2**20:.1f} MiB" if value >= 2**20 else f"{value / 1024:.1f} KiB"
        case "s" | "m" | "d":
            name = {"s": "s", "m": "min", "d": "days"}[unit]
            return f"{value:,.{decimals if decimals is not None else 0 if value >= 10 else 2}f} {name}"
    return f"{value:,.{decimals}f}" if decimals is not None else f"{value:,.3f}".rstrip("0").rstrip(".")


def name_of(target, labels):
    legend = re.sub(r"{{(\w+)}}", lambda match: labels.get(match[1], ""), target["legendFormat"])
    return " ".join(legend.split())


def stat(panel, answers):
    defaults = panel["fieldConfig"]["defaults"]
    cells = []
    for target, result in answers:
        for labels, points in result:
            text = shown(float(points[-1][1]), defaults["unit"], defaults.get("decimals"), defaults["mappings"])
            cells.append(f"<div>{html.escape(name_of(target, labels))}<b>{html.escape(text)}</b></div>")
    return f'<div class="stats">{"".join(cells) or defaults.get("noValue", "")}</div>'


def bargauge(panel, answers):
    defaults = panel["fieldConfig"]["defaults"]
    bars = []
    for target, result in answers:
        for labels, points in result:
            value, name = float(points[-1][1]), name_of(target, labels)
            colour = defaults["color"]["fixedColor"]
            width = min(value / defaults.get("max", 1), 1) * 100
            text = shown(value, defaults["unit"], defaults.get("decimals"))
            bars.append(f'<div class="bar"><span>{html.escape(name)}</span><i style="width:{width:.1f}%;background:{colour}"></i><span>{text}</span></div>')
    return "".join(bars) or defaults.get("noValue", "")


def table(panel, answers):
    transformations = {each["id"]: each["options"] for each in panel["transformations"]}
    organize = transformations["organize"]
    columns, names = organize["indexByName"], organize["renameByName"]
    rows = []
    for target, result in answers:
        value = f"Value #{target['refId']}" if len(panel["targets"]) > 1 else "Value"
        for labels, points in result:
            # As the transformation `merge`: rows are one where what they share is equal.
            row = next((row for row in rows if all(row.get(key, text) == text for key, text in labels.items())), None)
            if row is None:
                rows.append(row := dict(labels))
            row |= labels | {value: float(points[-1][1])}
    used = [name for name in columns if any(name in row for row in rows) and name not in organize["excludeByName"]]
    for order in transformations.get("sortBy", {"sort": []})["sort"]:
        rows.sort(key=lambda row: row.get(order["field"], 0), reverse=order["desc"])

    def cell(row, name):
        value = row.get(name, "")
        if isinstance(value, float):
            form = {change["id"]: change["value"] for override in panel["fieldConfig"]["overrides"] if matches(override, names[name]) for change in override["properties"]}
            value = shown(value, form.get("unit", "none"), form.get("decimals"))
            return f'<td class="n">{value}</td>'
        return f"<td>{html.escape(value)}</td>"

    head = "".join(f'<th class="{"n" if name.startswith("Value") else ""}">{names[name]}</th>' for name in used)
    body = "".join(f"<tr>{''.join(cell(row, name) for name in used)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>" if rows else panel["fieldConfig"]["defaults"].get("noValue", "")


def matches(override, name):
    return re.search(override["matcher"]["options"].strip("/"), name)


def timeseries(panel, answers, span):
    defaults = panel["fieldConfig"]["defaults"]
    place = panel["gridPos"]
    series = [(name_of(target, labels), [(float(t), float(v)) for t, v in points]) for target, result in answers for labels, points in result]
    width, height = place["w"] * 1500 / 24 - 96, place["h"] * ROW - 30 - 26 - 17 * (1 + len(series) * 120 // int(width_of(place)))
    if not series:
        return defaults.get("noValue", "No data")
    start, end = span
    stack = "stacking" in defaults["custom"]
    heights = {}
    for _, points in series:
        for then, value in points:
            heights[then] = heights.get(then, 0) + value if stack else max(heights.get(then, 0), value)
    top = rounded_up(max(heights.values()))
    x = lambda then: 60 + (then - start) / (end - start) * width  # noqa: E731
    y = lambda value: height - value / top * (height - 6)  # noqa: E731
    drawn = []
    for part in range(5):
        value = top * part / 4
        drawn.append(f'<path d="M60 {y(value):.1f}H{60 + width:.0f}" stroke="#e5e5e5"/><text x="55" y="{y(value) + 4:.1f}" text-anchor="end" font-size="10" fill="#666">{shown(value, defaults["unit"])}</text>')
        then = start + (end - start) * part / 4
        form = "%m-%d" if end - start > 86400 else "%H:%M:%S"
        drawn.append(f'<text x="{x(then):.0f}" y="{height + 13:.0f}" text-anchor="{"end" if part == 4 else "middle"}" font-size="10" fill="#666">{datetime.fromtimestamp(then, timezone.utc).strftime(form)}</text>')
    legend = []
    bars = defaults["custom"]["drawStyle"] == "bars"
    stacked = {}
    for index, (name, points) in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        if bars:
            gap = min(b[0] - a[0] for a, b in zip(points, points[1:])) if len(points) > 1 else 86400
            for then, value in points:
                below = stacked.get(then, 0) if stack else 0
                stacked[then] = below + value
                each = gap / (end - start) * width * 0.8 / (1 if stack else len(series))
                left = x(then) - gap / (end - start) * width * 0.4 + (0 if stack else index * each)
                drawn.append(f'<rect x="{left:.1f}" y="{y(min(below + value, top)):.1f}" width="{max(each - 1, 1):.1f}" height="{max(value / top * (height - 6), 0):.1f}" fill="{colour}"/>')
        else:
            dash = "6 5" if any(matches(override, name) for override in panel["fieldConfig"]["overrides"]) else ""
            path = "M" + "L".join(f"{x(then):.1f} {y(value):.1f}" for then, value in points)
            drawn.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        legend.append(f'<span><i style="background:{colour}"></i>{html.escape(name)}: {shown(points[-1][1], defaults["unit"], defaults.get("decimals"))}</span>')
    return f'<svg width="{width + 70:.0f}" height="{height + 16:.0f}">{"".join(drawn)}</svg><div class="legend">{"".join(legend)}</div>'


def rounded_up(value):
    """So that a quarter of it is a plain number."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next(power * step for step in (1, 1.2, 1.6, 2, 2.4, 3, 4, 6, 8, 10) if power * step >= value)


def width_of(place):
    return place["w"] * 1500 / 24 - 40


def draw(dashboard, send, values, span, folder, browser):
    """`send(target)` answers a query; the picture is folder/NAME.png."""
    kinds = {"stat": stat, "bargauge": bargauge, "table": table}
    boxes, bottom = [], 0
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        style = f"left:{place['x'] * 1500 / 24 + 3:.0f}px;top:{place['y'] * ROW}px;width:{place['w'] * 1500 / 24 - 6:.0f}px;height:{place['h'] * ROW - 6}px"
        bottom = max(bottom, (place["y"] + place["h"]) * ROW)
        if panel["type"] == "row":
            boxes.append(f'<div class="row" style="{style}">{panel["title"]}</div>')
            continue
        answers = [(target, send(target)) for target in panel["targets"]]
        body = kinds[panel["type"]](panel, answers) if panel["type"] in kinds else timeseries(panel, answers, span)
        title = panel["title"].replace("$user", values.get("user", ""))
        boxes.append(f'<div class="panel" style="{style}"><h2>{html.escape(title)}</h2>{body}</div>')
    note = "A rendering of the dashboard's own queries over simulated data, with a simulated past; Grafana draws it in its own way."
    page = folder / f"{dashboard['uid']}.html"
    page.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><style>{STYLE}</style><h1>{dashboard["title"]}</h1><p class="note">{note}</p>'
        f'<div class="grid" style="height:{bottom}px">{"".join(boxes)}</div>'
    )
    picture = folder / f"{dashboard['uid'].removeprefix('teams-pstn-')}.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", f"--user-data-dir={folder}/profile", f"--window-size=1530,{bottom + 90}",
               f"--screenshot={picture}", page.as_uri()]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return picture

