"""The tab that runs two to four models on one image and shows where they differ."""

import hashlib
import html
from typing import Any

import numpy as np
import streamlit as st

from app import agreement, common, palettes, sources, views
from app.confusion_table import scrolling
from app.frontend import FOLDER
from app.plain_text import escaped
from app.words import class_name, percent
from runtime.bundle import same_weights
from runtime.errors import UserError
from runtime.image import read_rgb
from runtime.segmenter import Segmentation

MOST = 4
THRESHOLDS = {common.BINARY: (common.BINARY, 127, "bright"), common.OTSU: (common.OTSU, "bright", 2)}
REPEATS, ENOUGH = 5, 0.5  # runs for a time, and the seconds after which no further one begins
FREE = "models of your choice"
Timed = tuple[Segmentation, list[float]]  # and the seconds of each run


def show() -> None:
    st.html(FOLDER / "scores.css")
    controls, rest = st.container(key="layout").columns([1.35, 3.4], gap="medium")
    try:
        with controls:
            image = sources.choose_image("compare")
            methods = choose_methods()
            colours = common.choose_colours("compare")
            opacity = common.choose_opacity("compare")
        if image is None:
            rest.info("Upload an image of a road to begin.")
            return
        if len(methods) < 2:
            rest.info(f"Choose two to {MOST} models.")
            return
        with rest:
            results = all_segmented(*image, methods)
            found = [palettes.recoloured(one, colours) for one, _ in results]
            names = [common.short_name(common.method_name(method)) for method in methods]
            show_masks(found, [seconds for _, seconds in results], names, opacity)
            show_differences(found, names)
            with st.expander("Classes", expanded=True):
                st.html(classes_table(found, names))
    except UserError as error:
        rest.error(escaped(str(error)))


def choose_methods() -> list[tuple[Any, ...]]:
    """What segments the image, two to four times, each as `common.choose_method` gives it."""
    files = {common.below(path): path for path in common.model_files()}
    options = [*files, *THRESHOLDS]
    groups = {
        " and ".join(path.stem for path in group): [common.below(path) for path in group[:MOST]]
        for group in same_weights(list(files.values()))
    }
    names = None
    if groups:
        chosen = st.selectbox("Compare", [FREE, *groups], key="compare_what", format_func=str.capitalize)
        names = groups.get(chosen)
    if names is None:
        names = st.multiselect(
            f"Models (two to {MOST})",
            options,
            default=options[:2],
            max_selections=MOST,
            format_func=common.choice_name,
            key="compare_methods",
        )
    return [
        THRESHOLDS[name] if name in THRESHOLDS else (files[name], files[name].stat().st_mtime_ns)
        for name in names
    ]


def all_segmented(data: bytes, name: str, methods: list[tuple[Any, ...]]) -> list[Timed]:
    """One result a method; those of the last image and methods are remembered for this visitor."""
    token = hashlib.sha256(data).hexdigest()
    kept: dict[Any, Timed] = st.session_state.get("compare_results", {})
    rgb = next((one.rgb for key, (one, _) in kept.items() if key[0] == token), None)
    rgb = read_rgb(data, name=name) if rgb is None else rgb
    new = [method for method in methods if (token, method) not in kept]
    fresh = dict(zip(new, timed(rgb, new), strict=True))
    results = {(token, method): fresh.get(method) or kept[token, method] for method in methods}
    st.session_state["compare_results"] = results
    return [results[token, method] for method in methods]


def timed(rgb: np.ndarray, methods: list[tuple[Any, ...]]) -> list[Timed]:
    """Segmented, with the times of up to REPEATS runs each, in turn, so that what else the server does slows all alike.
    A model has been warmed up when it was loaded."""
    results: list[Timed] = [(common.segment_rgb(rgb, method), []) for method in methods]
    for one, seconds in results:
        seconds.append(one.seconds)
    for _ in range(REPEATS - 1):
        for (_, seconds), method in zip(results, methods, strict=True):
            if sum(seconds) < ENOUGH:
                seconds.append(common.segment_rgb(rgb, method).seconds)
    return results


def show_masks(found: list[Segmentation], times: list[list[float]], names: list[str], opacity: float) -> None:
    """Two in a row, each with the median of its times; four make two rows."""
    for start in range(0, len(found), 2):
        for index, column in zip(
            range(start, min(start + 2, len(found))), st.columns(2, gap="medium"), strict=False
        ):
            with column:
                drawn = views.overlay(common.for_the_screen(found[index]), opacity)
                words = f"What {names[index]} finds"
                st.image(drawn, width="stretch", output_format="JPEG", alt=words)
                sure = found[index].mean_confidence
                told = "" if sure is None else f" · mean confidence {percent(sure)}"
                st.markdown(f"{escaped(f'{index + 1}. {names[index]}')}: {time_of(times[index])}{told}")
                if found[index].doubt:
                    st.caption(escaped(found[index].doubt))


def time_of(seconds: list[float]) -> str:
    """The median, in Markdown, and of how many runs."""
    runs = f"median of {len(seconds)} runs" if len(seconds) > 1 else "one run"
    return f"**{np.median(seconds) * 1e3:.1f} ms** ({runs})"


def classes_table(found: list[Segmentation], names: list[str]) -> str:
    """The share of each class by each model, a row a class, the largest first; classes meet by name."""
    shares: list[dict[str, dict[str, Any]]] = [
        {row["name"].casefold(): row for row in one.legend()} for one in found
    ]
    rows = {key: row for share in shares for key, row in share.items()}
    order = sorted(rows, key=lambda key: -max(share.get(key, {"share": 0})["share"] for share in shares))
    head = "".join(
        f'<th scope="col">{index + 1}. {html.escape(name)}</th>' for index, name in enumerate(names)
    )
    lines = (
        f'<tr><th scope="row">{html.escape(class_name(rows[key]["name"]))}</th>'
        f"{''.join(_share(share.get(key)) for share in shares)}</tr>"
        for key in order
    )
    return scrolling(
        "Classes",
        f'<table class="scores"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>",
    )


def _share(row: dict[str, Any] | None) -> str:
    if row is None:
        return "<td>–</td>"
    colour = "rgb({}, {}, {})".format(*row["colour"])
    return f'<td>{html.escape(percent(row["share"]))} <span class="swatch" style="background:{colour}"></span></td>'


def show_differences(found: list[Segmentation], names: list[str]) -> None:
    """How far they agree, each with each, and the map of what they do not agree on."""
    shares = agreement.agreement(found)
    if shares.sum() == len(found):  # each agrees with itself alone
        st.info(
            "No two of these give the same class anywhere: classes are compared by name, and these have "
            "other names. Choose models of the same classes."
        )
        return
    left, right = st.columns(2, gap="medium")
    apart = float((agreement.extra_answers(found) > 0).mean())
    with left:
        st.markdown(f"**They differ on {apart:.1%} of the pixels**")
        drawn = agreement.map_of_differences([common.for_the_screen(one) for one in found])
        st.image(drawn, width="stretch", output_format="PNG", alt="Where they differ")
        steps = "; ".join(
            f"{colour}: {words}" for words, colour in zip(WORDS[: len(found) - 1], COLOURS, strict=False)
        )
        st.caption(f"Grey: all give the same class. {steps}.")
    with right:
        st.markdown("**Agreement with each other, % of the pixels**")
        st.table(agreement_rows(shares, names))
        if len(found) == 2:
            st.markdown("**What one takes for another**")
            disputes = agreement.common_disputes(found[0], found[1])
            st.table(
                {  # by the numbers of the table above: two long names would push the shares out of sight
                    "model 1": [escaped(class_name(row["first"])) for row in disputes],
                    "model 2": [escaped(class_name(row["second"])) for row in disputes],
                    "% of the pixels": [f"{row['share']:.2%}" for row in disputes],
                }
            )


WORDS = ("two different classes", "three", "four")
COLOURS = ("Yellow", "orange", "red")


def agreement_rows(shares: Any, names: list[str]) -> dict[str, list[str]]:
    """A table by columns: the names, numbered, and a column of percentages for each."""
    columns = {f"{index + 1}": [f"{share:.2%}" for share in shares[:, index]] for index in range(len(names))}
    return {"model": [escaped(f"{index + 1}. {name}") for index, name in enumerate(names)], **columns}
