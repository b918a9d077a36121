"""The preview of a project's dashboard: six simulated hours in a real Prometheus, drawn by its panels and queries.

    python docs/dashboard.py FOLDER_OF_PROMETHEUS_AND_PROMTOOL docs/images/dashboard.png

It stands in for a picture of Grafana, which no package registry has. In the last two hours a canary runs beside the
stable release, and one column drifts.
"""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import matplotlib
import numpy as np
from matplotlib import dates, patches, ticker
from matplotlib import pyplot as plt
from programs import answering, free_port

MONITORING = Path(__file__).resolve().parent.parent / "{{cookiecutter.project}}" / "monitoring"
HOURS, STEP = 6, 60
CHOSEN = {"$job": "model", "$release": ".*", "$track": ".*", "$column": "bmi", "$__rate_interval": "5m"}
PAGE, PANEL, INK, DIM, GRID = "#111217", "#181b1f", "#d8d9da", "#8e8e93", "#2c3035"
COLORS = ["#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#b877d9", "#8ab8ff", "#ffa6b0", "#96d98d", "#fade2a", "#ca95e5"]
RED, GREEN = "#f2495c", "#73bf69"
COLUMNS = ["age", "bmi", "bp", "s1", "s2", "s3", "s4", "s5"]
EDGES = [f"{bin:02} {bin} to {bin + 1}" for bin in range(10)]


class History:
    """Counters and gauges that are written as OpenMetrics."""

    def __init__(self) -> None:
        self.numbers = np.random.default_rng(0)
        self.values: dict[tuple[str, str], float] = {}
        self.lines: dict[str, list[str]] = {}

    def add(self, name: str, labels: Mapping[str, Any], count: float) -> None:
        """Adds to a counter."""
        key = name, text_of(labels)
        self.values[key] = self.values.get(key, 0) + count

    def scrape(self, at: float) -> None:
        """Writes all values at a time."""
        for (name, labels), value in self.values.items():
            self.lines.setdefault(name, []).append(f"{name}{{{labels}}} {value:g} {at:.0f}")

    def text(self) -> str:
        """All that was written."""
        blocks = [f"# TYPE {name} unknown\n" + "\n".join(lines) for name, lines in self.lines.items()]
        return "\n".join(blocks) + "\n# EOF\n"


def text_of(labels: Mapping[str, Any]) -> str:
    """Labels as OpenMetrics has them."""
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def minute(history: History, target: Mapping[str, str], passed: float, share: float) -> None:
    """Simulates a minute of a release.

    Args:
        history: What is written to.
        target: Labels of the release.
        passed: Hours since the start.
        share: Its share of the traffic.
    """
    model = {**target, "model_version": "model-41" if target["track"] == "stable" else "model-42"}
    drift = float(np.clip((passed - 4) / 0.5, 0, 1))
    asked = share * (2400 + 900 * np.sin(passed * 1.1) + 120 * history.numbers.standard_normal())
    minute_of_requests(history, target, passed, asked)
    minute_of_rows(history, model, drift, int(900 * share))
    minute_of_answers(history, model, drift, asked)
    minute_of_labels(history, model, 0.955 - 0.07 * drift, 4 * share)
    for reason, most in (("busy", 3), ("bytes", 0.1), ("path", 6)):
        history.add("service_refused_total", {**model, "reason": reason}, history.numbers.poisson(most * share))
    for client, part in (("ward-3", 0.7), ("laboratory", 0.3)):
        count = history.numbers.poisson(max(asked, 0) * part)
        history.add("service_client_requests_total", {**model, "client": client}, count)
    history.values["service_certificate_days", text_of(target)] = 61 - passed / 24
    history.add("model_log_rows_total", model, 90 * share)
    history.add("model_log_bytes_total", model, 30_600 * share)
    for reason in ("disk", "queue"):
        history.add("model_log_dropped_total", {**model, "reason": reason}, 0)
    info = {**model, "git_commit": "9c1e77a", "training_key": "d41f", "mlflow_run": "a3b9"}
    for name, labels in (("model_info", info), ("up", target)):
        history.values[name, text_of(labels)] = 1
    if drift == 1:
        alert = {**model, "alertname": "InputDrift", "alertstate": "firing", "column": "bmi", "window": "1h"}
        history.values["ALERTS", text_of(alert)] = 1


def minute_of_requests(history: History, target: Mapping[str, str], passed: float, asked: float) -> None:
    """Counts requests, their statuses and latencies."""
    base, numbers = "bentoml_service_request", history.numbers
    bounds = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0]
    for path, weight, slower in (("/predict", 0.85, 1), ("/predict_file", 0.15, 3)):
        failing = 0.02 if 1.9 < passed < 2.1 else 0.0002
        median = 0.0016 * slower * (1 + 0.4 * np.sin(passed))
        below = [*(1 / (1 + np.exp(-(np.log(bounds) - np.log(median)) / 0.42))), 1.0]
        for code, part in (("200", 0.99 - failing), ("400", 0.01), ("500", failing)):
            count = numbers.poisson(asked * weight * part)
            labels = {**target, "endpoint": path, "http_response_code": code}
            history.add(f"{base}_total", labels, count)
            history.add(f"{base}_duration_seconds_count", labels, count)
            for bound, reached in zip([*map(str, bounds), "+Inf"], below, strict=True):
                history.add(f"{base}_duration_seconds_bucket", {**labels, "le": bound}, round(count * reached))
        place = f"{base}_in_progress", text_of({**target, "endpoint": path})
        history.values[place] = numbers.poisson(asked * weight / 900)


def minute_of_rows(history: History, model: Mapping[str, str], drift: float, rows: int) -> None:
    """Counts rows of inputs: one column drifts."""
    for column in COLUMNS:
        shares = np.full(10, 0.1) + (drift if column == "bmi" else 0) * np.linspace(-0.07, 0.07, 10)
        count_rows(history, model, ("input", column), dict.fromkeys(EDGES, 310), shares, rows)
    sure = np.array([0.01, 0.02, 0.04, 0.08, 0.85]) + drift * np.array([0.02, 0.03, 0.05, 0.05, -0.15])
    known = dict(
        zip(
            ["00 up to 0.6", "01 0.6 to 0.7", "02 0.7 to 0.8", "03 0.8 to 0.9", "04 above 0.9"],
            [10, 20, 40, 80, 850],
            strict=True,
        )
    )
    count_rows(history, model, ("confidence", "confidence"), known, sure, rows)
    for (bin, total), right in zip(known.items(), [0.55, 0.66, 0.75, 0.86, 0.985], strict=True):
        history.values["model_reference_right_rows", text_of({**model, "bin": bin})] = round(right * total)


def minute_of_answers(history: History, model: Mapping[str, str], drift: float, asked: float) -> None:
    """Counts answers by class."""
    shares = np.array([0.37, 0.63]) + drift * np.array([0.08, -0.08])
    count_rows(history, model, ("answer", "answer"), {"benign": 370, "malignant": 630}, shares, int(asked / 3))
    for label, part in zip(("benign", "malignant"), shares, strict=True):
        history.add("model_predictions_total", {**model, "label": label}, history.numbers.poisson(asked * part))


def minute_of_labels(history: History, model: Mapping[str, str], quality: float, most: float) -> None:
    """Counts labels that come back."""
    told = history.numbers.poisson(most)
    right = int(history.numbers.binomial(told, quality))
    history.add("model_feedback_total", {**model, "outcome": "unmatched"}, history.numbers.poisson(most / 20))
    for outcome, count, known in (("right", right, 955), ("wrong", told - right, 45)):
        history.add("model_feedback_total", {**model, "outcome": outcome}, count)
        labels = {**model, "kind": "outcome", "column": "outcome", "bin": outcome}
        history.add("model_rows_total", labels, count)
        history.values["model_reference_rows", text_of(labels)] = known


def count_rows(
    history: History,
    model: Mapping[str, str],
    variable: tuple[str, str],
    known: Mapping[str, int],
    shares: Any,
    rows: int,
) -> None:
    """Counts the rows of a minute in the bins of a variable."""
    for bin, count in zip(known, history.numbers.multinomial(rows, shares), strict=True):
        labels = {**model, "kind": variable[0], "column": variable[1], "bin": bin}
        history.add("model_rows_total", labels, count)
        history.values["model_reference_rows", text_of(labels)] = known[bin]


def simulated(end: float) -> str:
    """Six hours until a time, as OpenMetrics."""
    history = History()
    for step in range(HOURS * 3600 // STEP + 1):
        passed = step * STEP / 3600
        canary = 0.2 if passed > 3.5 else 0
        minute(history, {"job": "model", "instance": "a", "release": "r41", "track": "stable"}, passed, 1 - canary)
        if canary:
            minute(history, {"job": "model", "instance": "b", "release": "r42", "track": "canary"}, passed, canary)
        history.scrape(end - HOURS * 3600 + step * STEP)
    return history.text()


@contextlib.contextmanager
def prometheus(tools: Path, folder: Path) -> Iterator[httpx.Client]:
    """A Prometheus with the series of a folder, until the end of the block."""
    base = f"http://127.0.0.1:{(port := free_port())}"
    (folder / "empty.yml").write_text("{}\n")
    options = ("--config.file=empty.yml", "--storage.tsdb.path=series", f"--web.listen-address=127.0.0.1:{port}")
    ready, log = f"{base}/-/ready", folder / "prometheus.log"
    with (
        answering(tools / "prometheus", *options, url=ready, cwd=folder, log=log),
        httpx.Client(base_url=base, timeout=60) as client,
    ):
        yield client


def backfill(tools: Path, folder: Path, end: float) -> None:
    """Writes six hours and what the rules make of them into the series of a folder."""
    (folder / "history.txt").write_text(simulated(end))
    made = [str(tools / "promtool"), "tsdb", "create-blocks-from", "openmetrics", "history.txt", "series"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    for _ in range(3):  # rules read what others made, which Prometheus has after a start
        with prometheus(tools, folder) as client:
            made = [str(tools / "promtool"), "tsdb", "create-blocks-from", "rules", f"--start={end - HOURS * 3600:.0f}"]
            made += [f"--end={end:.0f}", f"--eval-interval={STEP}s", "--output-dir=series", f"--url={client.base_url}"]
            subprocess.run([*made, str(MONITORING / "rules.yml")], cwd=folder, check=True, capture_output=True)


class Drawing:
    """Draws panels from a Prometheus."""

    def __init__(
        self, client: httpx.Client, start: float, end: float, step: float, chosen: Mapping[str, str] = CHOSEN
    ) -> None:
        """Takes what to draw.

        Args:
            client: A client of Prometheus.
            start: Begin of the time shown, in seconds since 1970.
            end: Its end.
            step: Seconds between two points.
            chosen: Variable of the dashboard -> its value; others have those of CHOSEN.
        """
        self.client, self.start, self.end, self.step = client, start, end, step
        self.chosen = {**CHOSEN, **chosen}

    def ask(self, expression: str, instant: bool) -> list[Any]:
        """The result of a query."""
        for name, value in self.chosen.items():
            expression = expression.replace(name, value)
        given: dict[str, Any] = {"query": expression, "time": self.end}
        if not instant:
            given = {"query": expression, "start": self.start, "end": self.end, "step": self.step}
        answer = self.client.get(f"/api/v1/query{'' if instant else '_range'}", params=given).json()
        return list(answer["data"]["result"])

    def series(self, expression: str) -> list[tuple[dict[str, str], Any, Any]]:
        """Labels, times and values of each series, with NaN where it has gaps."""
        found, times = [], np.arange(self.start, self.end + self.step / 2, self.step)
        for each in self.ask(expression, False):
            at, known = np.array(each["values"], float).T
            values = np.full(len(times), np.nan)
            values[np.rint((at - self.start) / self.step).astype(int)] = known
            found.append((each["metric"], times, values))
        return found

    def clock(self, axes: Any) -> None:
        """The axis of time."""
        short = self.end - self.start < 3600
        axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S" if short else "%H:%M"))
        axes.xaxis.set_major_locator(ticker.MaxNLocator(3) if short else dates.HourLocator())

    def panel(self, axes: Any, panel: Any) -> None:
        """Draws a panel."""
        {"stat": self.stat, "table": self.table, "barchart": self.bars, "heatmap": self.heatmap}.get(
            panel["type"], self.lines
        )(axes, panel)

    def stat(self, axes: Any, panel: Any) -> None:
        """A number for each series."""
        unit, steps = panel["fieldConfig"]["defaults"]["unit"], panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        found = [each for target in panel["targets"] for each in self.ask(target["expr"], True)]
        axes.axis("off")
        if not found:
            no_data(axes)
        for number, each in enumerate(found):
            value = float(each["value"][1])
            color = [s["color"] for s in steps if s["value"] is None or value >= s["value"]][-1]
            place = (number + 0.5) / len(found)
            axes.text(
                place,
                0.48,
                shown(value, unit),
                ha="center",
                va="center",
                fontsize=21 if len(found) == 1 else 11.5,
                color=RED if color == "red" else GREEN,
                fontweight="bold",
                transform=axes.transAxes,
            )
            if len(found) > 1:
                axes.text(
                    place,
                    0.12,
                    each["metric"].get("track", ""),
                    ha="center",
                    color=DIM,
                    fontsize=8,
                    transform=axes.transAxes,
                )

    def lines(self, axes: Any, panel: Any) -> None:
        """Lines, or shares."""
        unit = panel["fieldConfig"]["defaults"]["unit"]
        custom = panel["fieldConfig"]["defaults"]["custom"]
        drawn = []
        for target in panel["targets"]:
            for metric, at, values in self.series(target["expr"]):
                drawn.append((legend(target["legendFormat"], metric), at, values))
        if not drawn:
            no_data(axes)
            return
        if len({name for name, *_ in drawn}) < len(drawn) or len(drawn) > 9:
            drawn = drawn[:9]
        if custom.get("stacking", {}).get("mode") == "percent":
            heights = np.nan_to_num([values for *_, values in drawn])
            axes.stackplot(
                moments(drawn[0][1]),
                heights / np.maximum(heights.sum(0), 1e-9),
                colors=COLORS,
                labels=[n for n, *_ in drawn],
                alpha=0.8,
                linewidth=0,
            )
            axes.set_ylim(0, 1)
        else:
            for (name, at, values), color in zip(drawn, COLORS * 2, strict=False):
                axes.plot(
                    moments(at),
                    values,
                    color=RED if name == "limit" else color,
                    label=name,
                    linewidth=1.4,
                    linestyle="--" if "limit" in name or "test split" in name else "-",
                )
                if len(drawn) < 3:
                    axes.fill_between(moments(at), values, color=color, alpha=0.08, linewidth=0)
            limits = [
                s["value"] for s in panel["fieldConfig"]["defaults"]["thresholds"]["steps"] if s["value"] is not None
            ]
            for value in limits:
                axes.axhline(value, color=RED, linewidth=1, linestyle=(0, (4, 3)), alpha=0.8)
            if custom.get("axisSoftMin") == 0:
                top = max([*(values[np.isfinite(values)].max(initial=0) for _, _, values in drawn), *limits])
                axes.set_ylim(min(0, *(np.nanmin(v) for *_, v in drawn)) if unit == "none" else 0, top * 1.12 or 1)
        axes.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
        self.clock(axes)
        axes.margins(x=0)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=GRID, linewidth=0.7)
        columns = min(len(drawn), 3 if max(len(name) for name, *_ in drawn) > 9 else 5)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.02, -0.1),
            ncols=columns,
            fontsize=7.5,
            frameon=False,
            labelcolor=INK,
            handlelength=1.1,
            columnspacing=1.1,
            handletextpad=0.5,
        )

    def heatmap(self, axes: Any, panel: Any) -> None:
        """Answers by time and latency."""
        (target,) = panel["targets"]
        found = sorted(self.series(target["expr"]), key=lambda each: float(each[0]["le"]))
        counts = np.diff(np.nan_to_num([values for *_, values in found]), axis=0, prepend=0)
        times = moments(found[0][1])
        labels = [metric["le"] for metric, *_ in found]
        colors = matplotlib.colors.LinearSegmentedColormap.from_list(
            "", [PANEL, "#3b2a63", "#a352cc", "#ff9830", "#fff899"]
        )
        axes.pcolormesh(times, np.arange(len(labels)), counts, cmap=colors, shading="nearest")
        axes.set_yticks(range(len(labels)), [shown(float(each), "s") if each != "+Inf" else "more" for each in labels])
        self.clock(axes)

    def bars(self, axes: Any, panel: Any) -> None:
        """Bars by bin."""
        width = 0.8 / len(panel["targets"])
        for number, target in enumerate(panel["targets"]):
            found = {each["metric"]["bin"]: float(each["value"][1]) for each in self.ask(target["expr"], True)}
            bins = sorted(found)
            places = np.arange(len(bins)) + (number - 0.5) * width
            axes.bar(
                places,
                [found[name] for name in bins],
                width * 0.92,
                color=COLORS[2 if number else 3],
                label=target["legendFormat"],
            )
        few = len("".join(bins)) // 100 + 1  # so many letters have room
        axes.set_xticks(range(0, len(bins), few), bins[::few])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(axis="y", color=GRID, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", fontsize=8, frameon=False, labelcolor=INK, ncols=2)

    def table(self, axes: Any, panel: Any) -> None:
        """Rows of labels and values."""
        axes.axis("off")
        several = len(panel["targets"]) > 1
        rows: dict[tuple[str, ...], list[str]] = {}
        labels = (
            ("track", "kind", "column")
            if several
            else ("track", "release", "model_version", "git_commit", "training_key", "mlflow_run")
        )
        for number, target in enumerate(panel["targets"]):
            for each in self.ask(target["expr"], True):
                key = tuple(each["metric"].get(label, "") for label in labels)
                rows.setdefault(key, [""] * len(panel["targets"]))[number] = f"{float(each['value'][1]):.2f}"
        shown_rows = (
            sorted(rows.items(), key=lambda row: -float(row[1][0] or 0))
            if several
            else sorted(rows.items(), reverse=True)
        )
        cells = [[*key, *(values if several else [])] for key, values in shown_rows[:8]]
        names = [*labels, *([t["legendFormat"] for t in panel["targets"]] if several else [])]
        made = axes.table(
            cells, colLabels=names, loc="upper left", cellLoc="left", edges="horizontal", bbox=[0, 0, 1, 1]
        )
        made.auto_set_font_size(False)
        made.set_fontsize(8.5)
        for (row, column), cell in made.get_celld().items():
            cell.set_edgecolor(GRID)
            cell.set_text_props(ha="left")
            hot = row and several and column == 3 and float(cells[row - 1][3]) > 4.5
            cell.get_text().set_color(DIM if row == 0 else RED if hot else INK)


def moments(times: Any) -> Any:
    """Seconds since 1970 as matplotlib draws them."""
    return times / 86400


def no_data(axes: Any) -> None:
    """A panel whose queries have no result."""
    axes.axis("off")
    axes.text(0.5, 0.5, "No data", color=DIM, ha="center", va="center", transform=axes.transAxes)


def legend(pattern: str, metric: Mapping[str, str]) -> str:
    """The legend of a series."""
    pattern = re.sub(r"{{(\w+)}}", lambda name: metric.get(name[1], ""), pattern)
    more = metric.get("track", "") if "track" in metric and metric["track"] not in pattern else ""
    return " ".join([*pattern.split(), *more.split()])


def shown(value: float, unit: str) -> str:
    """A value with its unit."""
    if unit == "percentunit":
        return f"{value:.2%}" if 0 < abs(value) < 0.02 else f"{value:.0%}"
    if unit == "s":
        return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"
    if unit == "Bps":
        return f"{value / 1000:g} kB/s"
    if value >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}" + {"reqps": "/s", "rowsps": "/s"}.get(unit, "")


def draw(drawing: Drawing, target: Path) -> None:
    """Draws the dashboard."""
    matplotlib.use("Agg")
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    plt.rcParams.update(
        {
            "font.family": "DejaVu Sans",
            "axes.facecolor": PANEL,
            "axes.edgecolor": GRID,
            "text.color": INK,
            "xtick.color": DIM,
            "ytick.color": DIM,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
        }
    )
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    wide, tall = 16.0, height * 0.335
    figure = plt.figure(figsize=(wide, tall), facecolor=PAGE)
    for panel in panels:
        place = panel["gridPos"]
        left, width = (place["x"] + 0.12) / 24, (place["w"] - 0.24) / 24
        bottom, high = 1 - (place["y"] + place["h"] - 0.1) / height, (place["h"] - 0.2) / height
        if panel["type"] == "row":
            figure.text(left, bottom + high / 2, panel["title"], color=INK, fontsize=13, fontweight="bold", va="center")
            continue
        figure.add_artist(
            patches.Rectangle((left, bottom), width, high, color=PANEL, transform=figure.transFigure, zorder=-1)
        )
        title = panel["title"].replace("$column", drawing.chosen["$column"])
        figure.text(left + 0.12 / wide, bottom + high - 0.14 / tall, title, fontsize=10.5, va="top")
        inch = (0.42 if panel["type"] in ("timeseries", "barchart", "heatmap") else 0.12) / wide
        foot = {"timeseries": 0.62, "barchart": 0.3, "heatmap": 0.3}.get(panel["type"], 0.1) / tall
        axes = figure.add_axes((left + inch, bottom + foot, width - inch - 0.12 / wide, high - foot - 0.36 / tall))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        drawing.panel(axes, panel)
    figure.savefig(target, dpi=90, facecolor=PAGE)


def main() -> None:
    """Simulates, computes and draws."""
    tools, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    end = float(int(time.time()) // 7200 * 7200)
    with tempfile.TemporaryDirectory() as folder:
        backfill(tools, Path(folder), end)
        with prometheus(tools, Path(folder)) as client:
            draw(Drawing(client, end - HOURS * 3600 + 600, end, 120), target)


if __name__ == "__main__":
    main()
