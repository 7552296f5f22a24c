"""What Grafana does with the variables of a dashboard: their values, and rows that are repeated for each value."""

import json
import re


def replaced(text, values):
    for name, value in values.items():
        text = re.sub(rf"\${name}\b", lambda _: value, text)
    return text.replace("$__rate_interval", "20s")


def chosen(dashboard, selection, options):
    """Values of all variables: selected, or all, or the first. options(query) has what can be chosen."""
    values = {}
    for variable in dashboard["templating"]["list"][1:]:
        name = variable["name"]
        found = options(replaced(variable["query"]["query"], values), variable.get("regex"))
        values[name] = selection.get(name) or (variable["allValue"] if variable["includeAll"] else found[0] if found else "")
        yield name, found, values


def values_of(prometheus, asked, regex, **moment):
    """The values that a variable can have, now or at the time `time`."""
    function, inner = re.fullmatch(r"(label_values|query_result)\((.+)\)", asked).groups()
    if function == "label_values":
        series, label = re.fullmatch(r"(.+), (\w+)", inner).groups()
        return prometheus.api(f"label/{label}/values", **{"match[]": series})
    # Grafana matches the regular expression against the text of each result.
    found = [sample["metric"] for sample in prometheus.api("query", query=inner, **moment)["result"]]
    texts = ("{%s}" % ",".join(f'{name}="{value}"' for name, value in labels.items()) for labels in found)
    return [match[1] for text in texts if (match := re.search(regex.strip("/"), text))]


def expanded(dashboard, currencies):
    """The dashboard with its repeated rows once for each currency, at their places."""
    rows = []
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            rows.append([])
        rows[-1].append(panel)
    y, placed = 0, []
    for row in rows:
        top = row[0]["gridPos"]["y"]
        height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in row) - top
        for currency in currencies if row[0].get("repeat") else [None]:
            copies = json.loads(json.dumps(row).replace("$currency", currency) if currency else json.dumps(row))
            for panel in copies:
                panel["gridPos"]["y"] += y - top
            placed += copies
            y += height
    return dashboard | {"panels": placed}
