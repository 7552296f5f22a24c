"""Panels, queries and variables, built with Grafana's own types (grafana-foundation-sdk), so that a misspelled option is an error."""

from typing import TypeVar

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as commons, dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
RUNBOOKS = "https://github.com/teams-pstn-exporter/teams-pstn-exporter/tree/main/deploy/runbooks/"

# Colours that are distinct in the light and the dark theme, and for colour-blind readers.
BLUE, ORANGE, GREEN, YELLOW, RED = "#3274d9", "#e0752d", "#37872d", "#e0b400", "#c4162a"

# Units with their decimals. Grafana's units cannot contain a variable, so the currency is in the title, the axis or the heading.
MONEY, WHOLE, SHARE = ("locale", 2), ("locale", 0), ("percentunit", 1)

Kind = TypeVar("Kind", bargauge.Panel, stat.Panel, table.Panel, timeseries.Panel)


def query(expression, legend="", *, instant=False, interval=None):
    built = prometheus.Dataquery().datasource(DATASOURCE).editor_mode(QueryEditorMode.CODE).expr(" ".join(expression.split())).legend_format(legend)
    built = built.instant() if instant else built.range()
    return built.interval(interval) if interval else built


def latest(expression, legend=""):
    return query(expression, legend, instant=True)


def panel(
    builder: Kind, title, description, unit, queries, size, *, decimals=None, no_value=None, mappings=(), steps=((None, GREEN),), color=None, runbook=None
) -> Kind:
    """What all kinds have in common."""
    width, height = size
    for letter, each in zip("ABCDEFGHIJ", queries):
        builder.with_target(each.ref_id(letter))
    thresholds = dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE)
    builder.thresholds(thresholds.steps([models.Threshold(value=value, color=shade) for value, shade in steps]))
    builder.title(title).description(description).unit(unit).datasource(DATASOURCE).span(width).height(height).mappings(list(mappings))
    if decimals is not None:
        builder.decimals(decimals)
    if no_value:
        builder.no_value(no_value)
    if color:
        builder.color_scheme(color)
    if runbook:
        link = dashboard.DashboardLink(f"Runbook {runbook}").type(models.DashboardLinkType.LINK).url(f"{RUNBOOKS}{runbook}.md")
        builder.links([link.target_blank(True)])
    return builder


def fixed(shade):
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(shade)


def by_mode(mode):
    return dashboard.FieldColor().mode(mode)


def texts(**meanings):
    """A mapping of values to texts with colours: _0=("failing", RED)."""
    options = {name.strip("_"): models.ValueMappingResult(text=text, color=shade, index=index) for index, (name, (text, shade)) in enumerate(meanings.items())}
    return models.ValueMap(options=options)


FAILING_OR_OK = texts(_0=("failing", RED), _1=("OK", GREEN))
SEVERITIES = texts(info=("info", BLUE), warning=("warning", ORANGE), critical=("critical", RED))


def reduced():
    return common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False)


def stats(title, description, unit, *queries, size=(6, 4), colored=False, **more):
    """One or more large numbers. If colored, the background has the colour of the threshold."""
    color = by_mode(models.FieldColorModeId.THRESHOLDS) if colored else fixed("text")
    built = panel(stat.Panel(), title, description, unit, queries, size, color=color, **more)
    mode = commons.BigValueColorMode.BACKGROUND if colored else commons.BigValueColorMode.VALUE
    return built.reduce_options(reduced()).color_mode(mode).graph_mode(commons.BigValueGraphMode.NONE).text_mode(commons.BigValueTextMode.VALUE_AND_NAME)


def bars(title, description, unit, *queries, size, maximum=1, **more):
    built = panel(bargauge.Panel(), title, description, unit, queries, size, color=fixed(BLUE), **more).min(0).max(maximum)
    built.reduce_options(reduced()).display_mode(commons.BarGaugeDisplayMode.BASIC).value_mode(commons.BarGaugeValueMode.TEXT)
    return built.orientation(commons.VizOrientation.HORIZONTAL).name_placement(commons.BarGaugeNamePlacement.LEFT).max_viz_height(40).text(common.VizTextDisplayOptions().title_size(13).value_size(18))


def lines(title, description, unit, *queries, size=(12, 8), axis="", per_step=False, steps_only=False, dashed=None, maximum=None, **more):
    """per_step: bars of what each step of the graph brought. dashed: a pattern of the names of dashed lines."""
    built = panel(timeseries.Panel(), title, description, unit, queries, size, color=by_mode(models.FieldColorModeId.PALETTE_CLASSIC), **more).min(0)
    built.legend(common.VizLegendOptions().display_mode(commons.LegendDisplayMode.LIST).placement(commons.LegendPlacement.BOTTOM).show_legend(True).calcs(["lastNotNull"]))
    built.tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.MULTI).sort(commons.SortOrder.DESCENDING))
    built.show_points(commons.VisibilityMode.NEVER).axis_label(axis).line_width(1 if per_step else 2).fill_opacity(60 if per_step else 0)
    built.draw_style(commons.GraphDrawStyle.BARS if per_step else commons.GraphDrawStyle.LINE)
    built.line_interpolation(commons.LineInterpolation.STEP_AFTER if steps_only else commons.LineInterpolation.LINEAR)
    if per_step:
        built.stacking(common.StackingConfig().mode(commons.StackingMode.NORMAL).group("A"))
    if maximum is not None:
        built.max(maximum)
    if dashed:
        built.override_by_regexp(dashed, [models.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 6]})])
    return built


# The least width of any column, and of those with long texts, in pixels.
LEAST = 60
WIDE = {"user": 220, "reason": 200, "trunk": 180, "call_type": 150, "pool": 140, "budget": 100, "event": 90}


def width(heading, column):
    """The least width of a column. Grafana gives the same width to all columns that need no more."""
    return WIDE.get(column, LEAST) if isinstance(column, str) else 8 * len(heading.replace("$currency", "EUR")) + 20


def grid(title, description, columns, *, size, sort=None, links=None, **more):
    """A table. columns: heading → label, or (query, (unit, decimals)). Rows are joined by the labels that all queries share; other
    labels are not shown. sort: the heading of the column by which rows are sorted, the largest value first. links: heading → address."""
    expressions = {heading: column for heading, column in columns.items() if not isinstance(column, str)}
    # Grafana names the column of an only query "Value".
    values = dict(zip(expressions, [f"Value #{letter}" for letter in "ABCDEFGHIJ"] if len(expressions) > 1 else ["Value"]))
    fields = {heading: values.get(heading, column) for heading, column in columns.items()}
    queries = [latest(expression).format(PromQueryFormat.TABLE) for expression, _ in expressions.values()]
    built = panel(table.Panel(), title, description, "none", queries, size, color=fixed("text"), **more).show_header(True).min_width(LEAST)
    # The text for no data is that of the whole table. In a single cell it would be wrong.
    built.override_by_regexp("/.*/", [models.DynamicConfigValue(id_val="noValue", value="–")])
    for heading, column in columns.items():
        unit, decimals = (None, None) if isinstance(column, str) else column[1]
        least = width(heading, column)
        override(built, heading, unit=unit, decimals=decimals, **{"custom.minWidth": least if least > LEAST else None})
    if "Severity" in columns:
        override(built, "Severity", mappings=[SEVERITIES], **{"custom.cellOptions": commons.TableColorTextCellOptions()})
    for heading, address in (links or {}).items():
        override(built, heading, links=[dashboard.DashboardLink("Show ${__value.text}").url(address).build()])
    transform(built, "merge")
    if sort:
        transform(built, "sortBy", fields={}, sort=[{"field": fields[sort], "desc": True}])
    # The exporter is the last column, if there are several.
    fields = fields if "instance" in fields.values() else fields | {"Exporter": "instance"}
    names = {field: heading for heading, field in fields.items()}
    hidden = {} if "instance" in columns.values() else {"$only_exporter": True}
    order = {name: position for position, name in enumerate(names)}
    return transform(built, "organize", includeByName=dict.fromkeys(names, True), excludeByName=hidden, indexByName=order, renameByName=names)


def override(built: table.Panel, heading, **properties) -> None:
    # Grafana replaces variables in the heading, but not in the name that an override is for.
    pattern = "/^" + heading.replace("(", "\\(").replace(")", "\\)").replace("$currency", ".+") + "$/"
    given = [models.DynamicConfigValue(id_val=name, value=value) for name, value in properties.items() if value is not None]
    if given:
        built.override_by_regexp(pattern, given)


def transform(built: table.Panel, name, **options) -> table.Panel:
    return built.with_transformation(models.DataTransformerConfig(id_val=name, options=options))


def variable(name, label, asked, *, description="", all_value=".*"):
    """A variable of which several values can be chosen, or one, if all_value is None."""
    built = dashboard.QueryVariable(name).label(label).description(description).datasource(DATASOURCE)
    built.query({"query": asked, "refId": name}).refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
    if all_value is None:
        return built
    return built.multi(True).include_all(True).all_value(all_value).current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))


def board(uid, title, description, variables, *rows, time_from="now-30d"):
    """rows: (title, panels…). A row with $currency in its title is repeated for each currency."""
    built = dashboard.Dashboard(title).uid(uid).description(description).tags(["teams-pstn"]).readonly().refresh("5m").time(time_from, "now")
    # Billing periods are in UTC.
    built.timezone("utc").tooltip(models.DashboardCursorSync.CROSSHAIR)
    built.variables([dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"), *variables])
    others = dashboard.DashboardLink("Teams telephony").type(models.DashboardLinkType.DASHBOARDS).tags(["teams-pstn"])
    runbooks = dashboard.DashboardLink("Runbooks").type(models.DashboardLinkType.LINK).icon("doc").url(RUNBOOKS)
    built.links([others.as_dropdown(True).include_vars(True), runbooks.target_blank(True)])
    number = 0
    for heading, *row in rows:
        number += 1
        built.with_row(repeated(dashboard.Row(heading).id(number), heading))
        for each in row:
            number += 1
            built.with_panel(each.id(number))
    return built.build()


def repeated(row, heading):
    return row.repeat("currency") if "$currency" in heading else row
