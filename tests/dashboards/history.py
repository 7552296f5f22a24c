"""A past for Prometheus, because no test can wait a month. It is made from the current values of an exporter, for the moments
that rules and dashboards look back to: the midnights of twelve days, a day ago, and the same day of the previous billing
period.

Spend grows on each day of the week by another share, least on weekends, up to what is exported for either period.
"""

import re
import subprocess
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import groupby
from math import sqrt
from statistics import pstdev

DAY = 86400
# Records of the rules that look back: the level of the record, the family, and the same of the previous period.
RECORDED = [
    ("currency", "teams_pstn_dialout_charge", "teams_pstn_dialout_previous_charge"),
    ("currency", "teams_pstn_dialout_calls", "teams_pstn_dialout_previous_calls"),
    ("currency", "teams_pstn_dialout_call_seconds", "teams_pstn_dialout_previous_call_seconds"),
    ("currency", "teams_pstn_call_log_charge", "teams_pstn_call_log_previous_charge"),
    ("currency", "teams_pstn_call_log_calls", "teams_pstn_call_log_previous_calls"),
    ("currency_destination", "teams_pstn_call_log_charge", "teams_pstn_call_log_previous_charge"),
    ("currency_destination", "teams_pstn_call_log_calls", "teams_pstn_call_log_previous_calls"),
    ("trunk", "teams_pstn_direct_routing_calls", "teams_pstn_direct_routing_previous_calls"),
    ("trunk", "teams_pstn_direct_routing_failed_calls", "teams_pstn_direct_routing_previous_failed_calls"),
]
# Weights of the days, from Monday.
WEEKDAYS = (1.1, 0.9, 1.25, 1, 0.7, 0.3, 0.25)
# Gauges of the current period: what is charged or counted since it began.
OF_THE_PERIOD = re.compile(r"teams_pstn_(dialout|call_log|direct_routing|sms|blocked|department)_\w+")


def cycle_day(now):
    """A first day of the period such that twelve days to two weeks of it are over, whatever the date."""
    return min((datetime.fromtimestamp(now, timezone.utc) - timedelta(days=12)).day, 28)


def parse(exposition):
    """Samples as (name, labels, value)."""
    for line in exposition.splitlines():
        if match := re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line):
            name, labels, value = match.groups()
            yield name, dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")), float(value)


def add(prometheus_data, work, now, exporters, drawn=None):
    """Writes blocks; `exporters` is instance → exposition. One that is drawn has all that its lines need."""
    lines = defaultdict(list)
    for instance, exposition in exporters.items():
        target = {"job": "teams-pstn-exporter", "instance": instance}
        samples = list(parse(exposition))
        start = next(value for name, _, value in samples if name == "teams_pstn_billing_period_start_timestamp_seconds")
        end = next(value for name, _, value in samples if name == "teams_pstn_billing_period_end_timestamp_seconds")
        before = previous_start(start)
        for level, family, family_before in RECORDED:
            totals = defaultdict(lambda: [0.0, 0.0])
            for name, labels, value in samples:
                for index, metric in enumerate((family, family_before)):
                    if name == metric:
                        kept = ("tenant", *level.split("_"))
                        totals[tuple((label, labels[label]) for label in kept if label in labels)][index] += value
            for kept, (total, previous) in totals.items():
                labels = target | dict(kept)

                def spent(then):
                    if then >= start:
                        return total * grown(start, then) / grown(start, now)
                    return previous * grown(before, then) / grown(before, start)

                if (level, family) == ("currency", "teams_pstn_dialout_charge") and instance == drawn:
                    forecasts(lines, labels, spent, start, end, now)
                for then in moments(now, start, before, instance == drawn):
                    yesterday = spent(then - DAY) if (then >= start) == (then - DAY >= start) else 0
                    lines[f"{level}:{family}:sum"].append((labels, spent(then), then))
                    lines[f"{level}:{family}:increase1d"].append((labels, spent(then) - yesterday, then))
        if instance == drawn:
            every_series(lines, samples, target, start, now)
            failure_ratios(lines)
        for name, labels, _ in samples:
            if name == "teams_pstn_billing_period_start_timestamp_seconds":
                for then in moments(now, start, before, instance == drawn):
                    value = start if then >= start else before
                    lines["report:teams_pstn_billing_period_start_timestamp_seconds:max"].append((target | labels, value, then))
    path = work / "history.txt"
    with open(path, "w") as file:
        for name, samples in lines.items():
            file.write(f"# TYPE {name} gauge\n")
            samples.sort(key=lambda sample: (sorted(sample[0].items()), sample[2]))
            for labels, group in groupby(samples, key=lambda sample: sample[0]):
                text = ",".join(f'{key}="{value}"' for key, value in labels.items())
                file.writelines(f"{name}{{{text}}} {value!r} {then}\n" for _, value, then in group)
        file.write("# EOF\n")
    # For each block, promtool reads the whole file again: 20 days each are a few, two hours each would be hundreds.
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=486h", path, prometheus_data]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(made.stderr)


def previous_start(start):
    then = datetime.fromtimestamp(start, timezone.utc)
    month = (then.replace(day=1) - timedelta(days=1)).replace(day=then.day)
    return month.timestamp()


def forecasts(lines, labels, spent, start, end, now):
    """As the rules say it, from the twentieth part of the period on."""
    for then in hours(now, start):
        if (elapsed := (then - start) / (end - start)) < 0.05:
            continue
        forecast, days = spent(then) / elapsed, (end - then) / DAY
        midnights = [then // DAY * DAY - day * DAY for day in range(7)]
        increases = [spent(at) - (spent(at - DAY) if (at >= start) == (at - DAY >= start) else 0) for at in midnights]
        margin = 2 * pstdev(increases) * sqrt(days + days**2 / 7)
        values = {"forecast": forecast, "forecast_upper": forecast + margin, "forecast_lower": max(forecast - margin, spent(then))}
        for name, value in values.items():
            lines[f"currency:teams_pstn_dialout_charge:{name}"].append((labels, value, then))


def every_series(lines, samples, target, start, now):
    """The series of users and countries since the period began."""
    countries, unpriced = defaultdict(float), defaultdict(float)
    for name, labels, value in samples:
        if not OF_THE_PERIOD.fullmatch(name) or "_previous_" in name:
            continue
        digits = 4 if name.endswith("charge") else 0
        lines[name] += [(target | labels, round(value * grown(start, then) / grown(start, now), digits), then) for then in hours(now, start)]
        if name.startswith("teams_pstn_dialout_"):
            countries[name, labels["currency"], labels["usage_location"]] += value
        if name == "teams_pstn_call_log_calls":
            unpriced[labels["currency"]] += value * (labels["license_capability"] == "FREECALL")
    for currency, value in unpriced.items():
        free = [(target | {"currency": currency}, round(value * grown(start, then) / grown(start, now)), then) for then in hours(now, start)]
        lines["currency:teams_pstn_call_log_free_calls:sum"] += free
    for (name, currency, country), value in countries.items():
        labels = target | {"currency": currency, "usage_location": country}
        lines[f"currency_usage_location:{name}:sum"] += [(labels, value * grown(start, then) / grown(start, now), then) for then in hours(now, start)]


def failure_ratios(lines):
    """As the rules say it, of what each trunk's calls brought in 24 hours."""
    name = "trunk:teams_pstn_direct_routing_{}:increase1d"
    calls, failed = ({(tuple(labels.items()), then): value for labels, value, then in lines[name.format(what)]} for what in ("calls", "failed_calls"))
    for (trunk, then), count in calls.items():
        if count > 0:
            lines["trunk:teams_pstn_direct_routing_calls:failure_ratio1d"].append((dict(trunk), failed[trunk, then] / count, then))


def hours(now, start):
    """Every second hour of the period, on the hour."""
    return range(int(start), int(now) - 300, 7200)


def moments(now, start, before, dense=False):
    now, length = int(now), int(start - before)
    chosen = set()
    for days in range(12):
        midnight = now // DAY * DAY - days * DAY
        chosen |= {midnight - 240, midnight - 120, midnight}
    for then in (now - DAY, now - length):
        chosen |= set(range(then - 900, then + 900, 60))
    if dense:
        chosen |= set(hours(now, start)) | {then - length for then in hours(now, start)}
    return sorted(then for then in chosen if before <= then < now - 300)


@cache
def grown(start, then):
    """Weight of the time between."""
    weight, step = 0.0, 3600
    moment = start
    while moment < then:
        part = min(step, then - moment)
        weight += part * WEEKDAYS[datetime.fromtimestamp(moment, timezone.utc).weekday()]
        moment += part
    return weight
