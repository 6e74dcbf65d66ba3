"""A sheet of samples: each image as it is, under its classes' colours, and the label map alone, with a legend."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluation import chart_fonts
from runtime.files import whole_file
from runtime.image import colour, overlay
from training.data.spec import VOID_ID, DatasetSpec

TILE = 480  # pixels: the width, and the most in height, that an image is drawn at
TITLE = 64  # letters over an image; of a longer name the end is shown
DPI = 100
OPACITY = 0.6
LEGEND_ROW = 0.24  # inches
PLACES = 5  # columns of the legend


def chosen(classes: Sequence[set[int] | None], count: int) -> list[int]:
    """Which images to draw: one after another the one with most classes not yet seen, then at even steps."""
    good = [index for index, found in enumerate(classes) if found is not None]
    picked: list[int] = []
    seen: set[int] = set()
    while len(picked) < min(count, len(good)):
        best = max(good, key=lambda index: len((classes[index] or set()) - seen))
        if not (classes[best] or set()) - seen:
            break
        picked.append(best)
        seen |= classes[best] or set()
    rest = [index for index in good if index not in picked]
    missing = min(count - len(picked), len(rest))
    picked += [rest[(2 * step + 1) * len(rest) // (2 * missing)] for step in range(missing)]
    return sorted(picked)


def draw(path: Path, images: Sequence[tuple[str, np.ndarray, np.ndarray]], spec: DatasetSpec) -> None:
    """Write the sheet. `images` are (title, rgb uint8 (H, W, 3), train ids uint8 (H, W)); without any it is a
    legend alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    wide = 3 * TILE / DPI + 0.4
    tall = [TILE / DPI * min(1.0, rgb.shape[0] / rgb.shape[1]) + 0.35 for _, rgb, _ in images]
    legend = LEGEND_ROW * (-(-(len(spec.classes) + 1) // PLACES)) + 0.3
    figure = Figure(figsize=(wide, sum(tall) + legend), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(images) + 1, 3, height_ratios=[*tall, legend])
    for row, (title, rgb, ids) in enumerate(images):
        small, small_ids = _small(rgb, ids)
        alone = np.where((small_ids == VOID_ID)[..., None], 255, colour(small_ids, spec.palette))
        kinds = {
            title: small,
            "overlay": overlay(small, small_ids, spec.palette, OPACITY),
            "label map": alone,
        }
        for column, (name, image) in enumerate(kinds.items()):
            axes = figure.add_subplot(grid[row, column])
            axes.imshow(image.astype(np.uint8), interpolation="nearest")
            axes.set_title(
                chart_fonts.drawable(name if len(name) <= TITLE else f"…{name[1 - TITLE :]}"),
                fontsize=9,
                parse_math=False,
            )
            axes.set_axis_off()
    patches = [
        Patch(
            facecolor=(rgb[0] / 255, rgb[1] / 255, rgb[2] / 255),
            edgecolor="0.5",
            label=f"{index} {chart_fonts.drawable(name)}",
        )
        for index, (name, rgb) in enumerate(zip(spec.classes, spec.palette, strict=True))
    ]
    patches.append(Patch(facecolor="white", edgecolor="0.5", label="ignored"))
    axes = figure.add_subplot(grid[-1, :])
    axes.set_axis_off()
    shown = axes.legend(handles=patches, loc="center", ncols=PLACES, fontsize=9, frameon=False)
    for entry in shown.get_texts():
        entry.set_parse_math(False)  # a class may be called anything
    with whole_file(path) as part:
        chart_fonts.save(figure, part)


def _small(rgb: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both within a tile; small images keep their pixels."""
    scale = TILE / max(rgb.shape[:2])
    if scale >= 1:
        return rgb, ids
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return small, cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT)
