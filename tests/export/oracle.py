"""What an export must say, from the pages of Graph alone: plain sums with Decimal, written from the documentation."""

import csv
import io
import json
import re
import urllib.parse
import urllib.request
from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal

# The version and function of each report, and the property that has the time of a row.
FUNCTIONS = {
    "dialout": ("beta", "getPstnOnlineMeetingDialoutReport", None),
    "call_log": ("v1.0", "getPstnCalls", "startDateTime"),
    "direct_routing": ("beta", "getDirectRoutingCalls", "startDateTime"),
    "sms": ("beta", "getSmsLog", "sentDateTime"),
    "blocked_users": ("beta", "getPstnBlockedUsersLog", "blockDateTime"),
}
# The column of a sum, and what a row adds to it.
FIGURES = {
    "dialout": {
        "charge": lambda row: row["totalCallCharge"],
        "calls": lambda row: row["totalCalls"],
        "call_seconds": lambda row: row["totalCallSeconds"],
    },
    "call_log": {
        "charge": lambda row: row.get("charge") or 0,
        "connection_charge": lambda row: row.get("connectionCharge") or 0,
        "calls": lambda row: 1,
        "call_seconds": lambda row: row["duration"],
    },
    "direct_routing": {
        "calls": lambda row: 1,
        "failed_calls": lambda row: row.get("successfulCall") is False,
        "call_seconds": lambda row: row["duration"],
    },
    "sms": {
        "charge": lambda row: row.get("callCharge") or 0,
        "messages": lambda row: 1,
        "units": lambda row: row["smsUnits"],
    },
}
# The longest time that one request may ask for.
GRAPHS_LIMIT = timedelta(days=90)
DESTINATIONS = {"dialout": "destinationContext", "call_log": "destinationName", "sms": "destinationContext"}
GROUPINGS = {
    "dialout": ["row", "user", "department", "destination"],
    "call_log": ["row", "user", "department", "destination", "meeting"],
    "direct_routing": ["row", "user", "department"],
    "sms": ["row", "user", "department", "destination"],
    "blocked_users": ["row"],
}


def graph(url, tenant, secret):
    """A function that returns the rows of a report from one day to another. A row of a log counts once, and by its own time."""
    form = {"client_id": "66666666-7777-8888-9999-000000000000", "client_secret": secret, "grant_type": "client_credentials", "scope": f"{url}/.default"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(address, data=None, headers={}):
        with opener.open(urllib.request.Request(address, data, headers), timeout=60) as answer:
            return json.loads(answer.read(), parse_float=Decimal, parse_int=Decimal)

    token = get(f"{url}/{tenant}/oauth2/v2.0/token", urllib.parse.urlencode(form).encode())["access_token"]

    def pages(version, function, first, last):
        # Graph includes a call at the end of the time that is asked for.
        end = f"{date.fromisoformat(last) - timedelta(days=1)}T23:59:59.9999999Z"
        page = {"@odata.nextLink": f"{url}/{version}/communications/callRecords/{function}(fromDateTime={first}T00:00:00Z,toDateTime={end})"}
        while link := page.get("@odata.nextLink"):
            page = get(link, headers={"Authorization": f"Bearer {token}"})
            yield from page["value"]

    def rows(report, first, last):
        version, function, time = FUNCTIONS[report]
        if time is None:
            return list(pages(version, function, first, last))
        found, begin = [], first
        while begin < last:
            end = min(last, str(date.fromisoformat(begin) + GRAPHS_LIMIT))
            found += [row for row in pages(version, function, begin, end) if begin <= row[time][:10] < end]
            begin = end
        return list({row.get("id", index): row for index, row in enumerate(found)}.values())

    return rows


def table(report, by, rows, departments):
    """The header and the lines of the table of these rows. Numbers are Decimal, and nothing is None."""
    if by == "row":
        return None, [line(row) for row in rows]
    keys, sums = {"meeting": ["day", "conference_id", "user"]}.get(by, [by]), defaultdict(list)
    if by == "destination" and DESTINATIONS[report] == "destinationContext":
        keys = ["destination_context"]
    if report != "direct_routing":
        keys.append("currency")
    for row in rows:
        if by == "meeting" and not (row.get("callType") or "").startswith("conf_"):
            continue
        value = {
            "user": lambda: user(row),
            "department": lambda: departments.get(row.get("userPrincipalName"), "unmapped"),
            "destination": lambda: row.get(DESTINATIONS[report]) or "unknown",
            "destination_context": lambda: row.get("destinationContext") or "unknown",
            "currency": lambda: row.get("currency") or "unknown",
            "day": lambda: row["startDateTime"][:10],
            "conference_id": lambda: row.get("conferenceId"),
        }
        sums[tuple(value[key]() for key in keys)].append(row)
    figures = FIGURES[report]
    header = keys + (["start", "destinations"] if by == "meeting" else []) + list(figures)
    lines = []
    for key, group in sorted(sums.items(), key=lambda item: [part.encode() for part in item[0]]):
        fields = list(key)
        if by == "meeting":
            places = sorted({row.get("destinationName") or "unknown" for row in group})
            fields += [instant(min(row["startDateTime"] for row in group)), "; ".join(places)]
        fields += [sum((Decimal(figure(row)) for row in group), Decimal()) for figure in figures.values()]
        lines.append(dict(zip(header, fields)))
    return header, lines


def line(row):
    """A row of Graph with the names and values of an export. Lists are left out."""
    fields = {re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name): value for name, value in row.items()}
    shown = {name: value for name, value in fields.items() if not name.startswith("user_") or name not in ("user_id", "user_principal_name", "user_display_name")}
    return {"user": user(row)} | {name: "" if value is None else value for name, value in shown.items() if not isinstance(value, list)}


def instant(text):
    """With no digits of the second's fraction, or three, six or nine."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    return seconds + ("." + fraction.ljust(-(-len(fraction) // 3) * 3, "0") if fraction else "") + "Z"


def user(row):
    return row.get("userPrincipalName") or row.get("userId") or "unknown"


def text(value):
    """A value as a field of CSV has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value.normalize() if value else Decimal(), "f")
    if value[:1] in tuple("=+-@\t\r") and not re.fullmatch(r"\+\d+\**|-?\d+(\.\d+)?", value):
        return "'" + value
    return value


def read(written):
    """A table as Python's strict reader of RFC 4180 has it: the header, and lines of texts."""
    if not written.endswith("\r\n"):
        raise ValueError("the last line does not end in CR LF")
    header, *lines = csv.reader(io.StringIO(written, newline=""), strict=True)
    if any(len(fields) != len(header) for fields in lines):
        raise ValueError("a line has more or fewer fields than the header")
    return header, [dict(zip(header, fields)) for fields in lines]
