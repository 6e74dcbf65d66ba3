"""Charts of a report, each drawn for light or for dark paper: confusion matrices, bars, curves, intervals.

A chart is a matplotlib Figure; `png` gives its bytes. No display is touched and no global setting is changed.
"""

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text

from evaluation import chart_fonts


class Theme(NamedTuple):
    """Colours of a chart; `scale` are those of nothing, half and all in a matrix."""

    paper: str
    ink: str
    faint: str
    accent: str
    second: str
    scale: tuple[str, str, str]


LIGHT = Theme("#ffffff", "#1f2328", "#d0d7de", "#0969da", "#afb8c1", ("#ffffff", "#54a3e8", "#08306b"))
DARK = Theme("#0d1117", "#e6edf3", "#3d444d", "#58a6ff", "#6e7681", ("#0d1117", "#1f6feb", "#cae8ff"))
CELLS_WITH_TEXT = 32  # up to so many classes a matrix has a number in each cell
DPI = 110
COLOUR_BAR = "<colorbar>"  # how matplotlib labels the axes of one


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    _take_names_as_they_are(figure)
    buffer = io.BytesIO()
    # Without the version of matplotlib inside, so that equal charts are equal bytes.
    chart_fonts.save(figure, buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def both(draw: Callable[..., Figure], *values: Any, **options: Any) -> tuple[bytes, bytes]:
    """The PNG files of a chart, `draw(*values, **options)`, for light and for dark pages."""
    return png(draw(*values, theme=LIGHT, **options)), png(draw(*values, theme=DARK, **options))


def _take_names_as_they_are(figure: Figure) -> None:
    """No text is a formula: a class may be called $x$, or $\\frac{a$, which matplotlib would refuse to draw.

    But for colour bars, whose powers of ten are formulas and whose texts are our own.
    """
    parts = [axes for axes in figure.axes if axes.get_label() != COLOUR_BAR]
    for part in (*parts, *figure.texts, *figure.legends):
        for text in part.findobj(Text):
            text.set_parse_math(False)


def _sheet(width: float, height: float, theme: Theme, dpi: int = DPI) -> Figure:
    """An empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained", facecolor=theme.paper)
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Any, theme: Theme, grid: str | None = None) -> None:
    """Axes, ticks and labels in the theme's ink; grid lines along "x", "y" or "both"."""
    axes.set_facecolor(theme.paper)
    axes.tick_params(colors=theme.ink, which="both", length=2)
    for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
        text.set_color(theme.ink)
    for spine in axes.spines.values():
        spine.set_color(theme.faint)
    if grid:
        axes.grid(axis=grid, color=theme.faint, linewidth=0.6)
        axes.set_axisbelow(True)


def confusion(
    matrix: np.ndarray, names: Sequence[str], title: str, *, counts: bool = False, theme: Theme = LIGHT
) -> Figure:
    """The (C, C) matrix, rows the truth: each row in per cent of its true pixels, or the pixels themselves.

    Up to 32 classes every cell has its number; beyond that cells are small and the colour alone speaks.
    """
    names, title = chart_fonts.all_drawable(names), chart_fonts.drawable(title)
    classes = len(names)
    written = classes <= CELLS_WITH_TEXT
    cell = 0.46 if written else 0.135
    longest = max(map(len, names))
    side = cell * classes + (0.09 if written else 0.06) * longest + 0.9
    figure = _sheet(max(4.6, side + 0.9), max(3.8, side), theme, DPI if written else 150)
    axes = figure.add_subplot()
    values, norm, label = _scaled(matrix, counts)
    palette = _palette(theme)
    image = axes.imshow(values, cmap=palette, norm=norm, interpolation="nearest")
    size = 8.5 if written else 5.5
    axes.set_xticks(range(classes), names, rotation=60 if written else 90, ha="right" if written else "center",
                    rotation_mode="anchor" if written else "default", fontsize=size)  # fmt: skip
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.set_xlabel("prediction")
    axes.set_ylabel("truth")
    axes.set_title(title, fontsize=10 if written else 14)
    _dress(axes, theme)
    if written:
        _write_cells(axes, values, norm, palette, _compact if counts else _per_cent)
    else:  # every tenth line, for the eye to follow
        for place in np.arange(9.5, classes - 1, 10):
            axes.axhline(place, color=theme.faint, linewidth=0.5)
            axes.axvline(place, color=theme.faint, linewidth=0.5)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, fraction=0.04, pad=0.02)
    bar.set_label(label, color=theme.ink)
    _dress(bar.ax, theme)
    return figure


def _scaled(matrix: np.ndarray, counts: bool) -> tuple[np.ndarray, Normalize, str]:
    if counts:
        return np.ma.masked_less(matrix, 1), LogNorm(1, max(10, int(matrix.max()))), "pixels"
    truth = matrix.sum(axis=1, keepdims=True)
    share = np.ma.masked_where(np.broadcast_to(truth == 0, matrix.shape), 100 * matrix / np.maximum(1, truth))
    return share, Normalize(0, 100), "% of the true pixels"


def _palette(theme: Theme) -> Colormap:
    return LinearSegmentedColormap.from_list("scale", list(theme.scale)).with_extremes(bad=theme.paper)


def _write_cells(
    axes: Any, values: np.ndarray, norm: Normalize, palette: Colormap, text: Callable[[float], str]
) -> None:
    filled = np.ma.filled(values, 0)
    for row, column in zip(*np.nonzero(filled), strict=True):
        shown = text(filled[row, column])
        if shown:
            red, green, blue, _ = palette(norm(filled[row, column]))
            tone = "#101418" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#ffffff"
            axes.text(column, row, shown, ha="center", va="center", color=tone, fontsize=7.5)


def _per_cent(value: float) -> str:
    return f"{value:.0f}" if value >= 0.5 else ""


def _compact(value: float) -> str:
    """12 -> 12, 3456 -> 3.5k, 7654321 -> 7.7M: at most four signs."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            return f"{scaled:.1f}{name}" if scaled < 9.95 else f"{scaled:.0f}{name}"
    return f"{value:.0f}"


def bars(
    names: Sequence[str],
    values: Sequence[float],
    title: str,
    *,
    before: Sequence[float] | None = None,
    unit: str = "IoU, %",
    theme: Theme = LIGHT,
) -> Figure:
    """IoU of each class, 0..1, as bars from the top; `before` are the previous run's, thinner and grey."""
    names, title = chart_fonts.all_drawable(names), chart_fonts.drawable(title)
    figure = _sheet(5.2, 1.2 + 0.25 * len(names), theme, 130)
    axes = figure.add_subplot()
    places = np.arange(len(names))
    now = 100 * np.nan_to_num(np.asarray(values, float))
    if before is None:
        axes.barh(places, now, height=0.65, color=theme.accent)
    else:
        axes.barh(places - 0.14, now, height=0.44, color=theme.accent, label="now")
        old = 100 * np.nan_to_num(np.asarray(before, float))
        axes.barh(places + 0.24, old, height=0.28, color=theme.second, label="before")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=theme.ink)
    for place, value, width in zip(places, values, now, strict=True):
        text = "-" if np.isnan(value) else f"{width:.1f}"
        axes.text(110, float(place), text, va="center", ha="right", fontsize=7.5, color=theme.ink)
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlim=(0, 112), ylim=(len(names) - 0.4, -0.6), xlabel=unit)
    axes.set_xticks(range(0, 101, 20))
    axes.set_title(title, fontsize=10)
    _dress(axes, theme, "x")
    return figure


class Panel(NamedTuple):
    """One chart over the epochs: its label, columns of history.csv with their names, and what they are times."""

    label: str
    lines: tuple[tuple[str, str], ...]
    factor: float


PANELS = (
    Panel("loss", (("val_loss", "validation"), ("loss", "training")), 1.0),
    Panel("validation, %", (("val_miou", "mIoU"), ("val_pixel_accuracy", "pixel accuracy")), 100.0),
    Panel("learning rate", (("learning_rate", ""),), 1.0),
)
COLUMNS = ("epoch", *(column for panel in PANELS for column, _ in panel.lines))


def curves(
    history: Sequence[dict[str, Any]], panels: Sequence[Panel] = PANELS, *, theme: Theme = LIGHT
) -> Figure:
    """Losses, validation scores and learning rate over the epochs, side by side; `history` are rows of
    history.csv with numbers in them."""
    figure = _sheet(4.2 * len(panels), 3.3, theme)
    epochs = [row["epoch"] for row in history]
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        for (key, name), tone in zip(panel.lines, (theme.accent, theme.second), strict=False):
            numbers = [panel.factor * float(row[key]) for row in history]
            axes.plot(epochs, numbers, label=name, color=tone, marker="o" if len(epochs) < 3 else None)
        axes.set(xlabel="epoch", ylabel=panel.label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _dress(axes, theme, "both")
        if len(panel.lines) > 1:
            axes.legend(frameon=False, labelcolor=theme.ink, fontsize=8)
    return figure


# A title, a value a row, and its (low, high) where there is one.
Interval = tuple[str, Sequence[float], Sequence[tuple[float, float] | None]]


def intervals(
    names: Sequence[str],
    panels: Sequence[Interval],
    *,
    theme: Theme = LIGHT,
) -> Figure:
    """Dots with intervals: a row a name, the panels beside each other."""
    # Long paths leave room on a phone.
    lines = ["\n".join(textwrap.wrap(name, 20)) for name in chart_fonts.all_drawable(names)]
    figure = _sheet(1.6 + 3.2 * len(panels), 1.3 + 0.5 * len(names), theme, 130)
    sheets = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    places = np.arange(len(names))
    for axes, (title, values, bounds) in zip(sheets, panels, strict=True):
        for place, value, bound in zip(places, values, bounds, strict=True):
            if bound is not None:
                axes.plot(bound, (place, place), color=theme.accent, linewidth=5, alpha=0.4,
                          solid_capstyle="round")  # fmt: skip
            axes.plot([value], [place], "o", color=theme.accent, markersize=6)
            axes.annotate(f"{value:.2f}", (value, place), (0, 7), textcoords="offset points", ha="center",
                          fontsize=7.5, color=theme.ink)  # fmt: skip
        axes.set_title(title, fontsize=9)
        axes.margins(x=0.12)
        _dress(axes, theme, "x")
    sheets[0].set_yticks(places, lines, fontsize=8.5)
    sheets[0].set_ylim(len(names) - 0.5, -0.7)
    return figure
