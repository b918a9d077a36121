"""The dashboard as Grafana reads it."""

import json
from typing import Any

from ..serving import metrics
from . import rules
from .panels import Panel, chosen, rows
from .settings import Monitoring

UID = "model-service"
SOURCE = "$datasource"
RED, GREEN = "red", "green"


def text(settings: Monitoring) -> str:
    """The dashboard as JSON.

    Args:
        settings: The objectives.
    """
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    return json.dumps(_dashboard(settings).build(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def _dashboard(settings: Monitoring) -> Any:
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

    made = (
        dashboard.Dashboard("Model service")
        .uid(UID)
        .description("Requests, answers, drift and log of a served model. Written by `make monitoring`.")
        .tags(["machine-learning"])
        .time("now-6h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    for variable in _variables():
        made = made.with_variable(variable)
    number = 0
    for title, row in rows(settings).items():
        made = made.with_row(dashboard.Row(title))
        for panel in row:
            number += 1
            made = made.with_panel(_panel(panel).id(number))
    return made


def _variables() -> list[Any]:
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh, VariableSort

    def query(name: str, label: str, expression: str) -> Any:
        variable = dashboard.QueryVariable(name).label(label).query(expression).datasource(_source())
        return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)

    all_ = VariableOption(selected=True, text="All", value="$__all")
    found = [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        query("job", "Job", f"label_values({metrics.INFO}, job)").sort(VariableSort.ALPHABETICAL_ASC),
    ]
    for name in ("release", "track"):
        expression = f'label_values({metrics.INFO}{{job=~"$job"}}, {name})'
        several = query(name, name.title(), expression).multi(True).include_all(True).all_value(".*").current(all_)
        found.append(several.sort(VariableSort.ALPHABETICAL_ASC))
    inputs = chosen(rules.evidence("1h"), 'kind="input"')
    worst = f"sort_desc(max by (column) ({inputs}))"
    found.append(
        query("column", "Column", f"query_result({worst})").regex('/column="([^"]*)"/').sort(VariableSort.DISABLED)
    )
    return found


def _source() -> Any:
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

    return DataSourceRef(type_val="prometheus", uid=SOURCE)


def _panel(panel: Panel) -> Any:
    made = _drawn(panel).title(panel.title).description(panel.text).unit(panel.unit)
    made = made.datasource(_source()).span(panel.width).height(panel.height).thresholds(_thresholds(panel))
    for number, (legend, expression) in enumerate(panel.queries.items()):
        made = made.with_target(_target(panel, chr(ord("A") + number), legend, expression))
    return made


def _target(panel: Panel, reference: str, legend: str, expression: str) -> Any:
    from grafana_foundation_sdk.builders import prometheus
    from grafana_foundation_sdk.models.prometheus import PromQueryFormat

    target = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(reference).datasource(_source())
    if panel.kind in ("table", "bars"):
        return target.format(PromQueryFormat.TABLE).instant()
    return target.format(PromQueryFormat.HEATMAP).range() if panel.kind == "heatmap" else target.range()


def _thresholds(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

    steps = [Threshold(None, RED if panel.below else GREEN)]
    if panel.limit is not None:
        steps.append(Threshold(panel.limit, GREEN if panel.below else RED))
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _drawn(panel: Panel) -> Any:
    """The builder of a kind of panel, with what is particular to it."""
    return {"stat": _stat, "table": _table, "bars": _bars, "heatmap": _heatmap}.get(panel.kind, _lines)(panel)


def _stat(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import stat
    from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode

    return stat.Panel().graph_mode(BigValueGraphMode.NONE).color_mode(BigValueColorMode.VALUE)


def _lines(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, timeseries
    from grafana_foundation_sdk.models import common as models

    legend = common.VizLegendOptions().show_legend(True).placement(models.LegendPlacement.BOTTOM)
    legend = legend.display_mode(models.LegendDisplayMode.LIST).calcs([])
    tooltip = common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING)
    made = timeseries.Panel().legend(legend).tooltip(tooltip).line_width(2).show_points(models.VisibilityMode.NEVER)
    if panel.kind == "shares":
        percent = common.StackingConfig().mode(models.StackingMode.PERCENT).group("A")
        return made.stacking(percent).fill_opacity(70).line_width(1)
    if panel.limit is not None:
        line = common.GraphThresholdsStyleConfig().mode(models.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds_style(line)
    return made.fill_opacity(8).axis_soft_min(0) if panel.zero else made


def _heatmap(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, heatmap
    from grafana_foundation_sdk.models.common import ScaleDistribution

    scale = common.ScaleDistributionConfig().type(ScaleDistribution.LINEAR)
    return heatmap.Panel().calculate(False).y_axis(heatmap.YAxisConfig().unit(panel.unit)).scale_distribution(scale)


def _bars(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import barchart
    from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

    titles = {f"Value #{chr(ord('A') + number)}": title for number, title in enumerate(panel.queries)}
    return (
        barchart.Panel()
        .fill_opacity(80)
        .x_field("bin")
        .min(0)
        .with_transformation(DataTransformerConfig(id_val="joinByField", options={"byField": "bin", "mode": "outer"}))
        .with_transformation(_renamed(titles, ["Time", "Time 1", "Time 2"]))
        .with_transformation(DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": "bin"}]}))
    )


def _table(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, table
    from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

    values = [f"Value #{chr(ord('A') + number)}" for number in range(len(panel.queries))]
    single = len(values) == 1
    titles = dict(zip(values, panel.queries, strict=True)) if not single else {}
    first = common.TableSortByFieldState().display_name(next(iter(panel.queries))).desc(True)
    made = (
        table.Panel()
        .filterable(True)
        .decimals(2)
        .with_transformation(DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_renamed(titles, ["Time", *(["Value", "Value #A"] if single else [])]))
    )
    return made if single else made.sort_by([first])


def _renamed(titles: dict[str, str], hidden: list[str]) -> Any:
    from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

    options = {"excludeByName": dict.fromkeys(hidden, True), "indexByName": {}, "renameByName": titles}
    return DataTransformerConfig(id_val="organize", options=options)
