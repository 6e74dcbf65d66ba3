"""The image that tells the class under the pointer, and the legend whose classes can be switched off.

Two components of our own in plain HTML, CSS and JavaScript; nothing is loaded for them. What they show was made by
`runtime`: JavaScript places images and reads one number of the map of ids.
"""

import base64
import json
from typing import Any

import streamlit as st

from runtime.segmenter import Segmentation
from runtime.views import encoded

VIEWER_HTML = """
<div class="row"></div>
<input class="wipe" type="range" min="0" max="100" step="1" value="50" aria-label="Before and after">
<div class="says" role="status" aria-live="polite"></div>
"""
VIEWER_CSS = """
.row {display: flex; flex-wrap: wrap; gap: 0.6rem; justify-content: center}
.frame {position: relative; line-height: 0; cursor: crosshair; border-radius: 0.3rem; overflow: hidden}
.frame:focus-visible {outline: 3px solid var(--st-primary-color); outline-offset: 2px}
.frame img {width: 100%; display: block; user-select: none; -webkit-user-drag: none}
.frame .top {position: absolute; inset: 0}
.frame .edge {position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff;
  box-shadow: 0 0 0 1px #000a; pointer-events: none}
.frame .cross {position: absolute; width: 18px; height: 18px; margin: -9px 0 0 -9px; border-radius: 50%;
  border: 2px solid #fff; box-shadow: 0 0 0 2px #000, inset 0 0 0 1px #000; box-sizing: border-box;
  pointer-events: none}
.wipe {width: 100%; margin: 0.6rem 0 0; accent-color: var(--st-primary-color); height: 1.5rem}
.says {min-height: 1.5rem; margin-top: 0.35rem; color: var(--st-text-color); font: 0.9rem var(--st-font)}
.says b {display: inline-block; width: 0.8rem; height: 0.8rem; margin-right: 0.4rem; border-radius: 0.15rem;
  box-shadow: inset 0 0 0 1px #0005; vertical-align: -1px}
"""
VIEWER_JS = """
export default function (component) {
  const {parentElement, setStateValue} = component;
  const data = JSON.parse(new TextDecoder().decode(component.data));
  const row = parentElement.querySelector(".row"), wipe = parentElement.querySelector(".wipe");
  const says = parentElement.querySelector(".says");
  const [height, width] = data.size;
  let ids = null, at = data.point ? [data.point[0], data.point[1]] : null;
  const reader = new Image();
  reader.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = reader.width; canvas.height = reader.height;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(reader, 0, 0);
    ids = context.getImageData(0, 0, canvas.width, canvas.height);
    if (at) tell(...at);
  };
  reader.src = data.ids;

  const tell = (x, y) => {
    if (!ids) return;
    const column = Math.min(ids.width - 1, Math.floor((x + 0.5) / width * ids.width));
    const line = Math.min(ids.height - 1, Math.floor((y + 0.5) / height * ids.height));
    const id = ids.data[4 * (line * ids.width + column)];
    const entry = data.classes[id] || ["ignored", "#000"];
    const swatch = document.createElement("b");
    swatch.style.background = entry[1];
    says.replaceChildren(swatch, `${entry[0]} (class ${id}) at ${x}, ${y}`);
  };
  const place = (event, frame) => {
    const box = frame.getBoundingClientRect();
    const part = (value, from, length) => Math.min(0.999999, Math.max(0, (value - from) / length));
    return [Math.floor(part(event.clientX, box.left, box.width) * width),
            Math.floor(part(event.clientY, box.top, box.height) * height)];
  };
  const mark = () => row.querySelectorAll(".cross").forEach((cross) => {
    cross.hidden = !at;
    if (at) {
      cross.style.left = `${(at[0] + 0.5) / width * 100}%`;
      cross.style.top = `${(at[1] + 0.5) / height * 100}%`;
    }
  });
  const send = () => setStateValue("point", {image: data.image, x: at[0], y: at[1]});
  const image = (source, words, className) => {
    const image = document.createElement("img");
    image.src = source; image.alt = words; image.className = className; image.draggable = false;
    return image;
  };
  const framed = (images) => {
    const frame = document.createElement("div"), cross = document.createElement("div");
    frame.className = "frame"; frame.tabIndex = 0; cross.className = "cross";
    frame.setAttribute("role", "application");
    frame.setAttribute("aria-label", `${images[0].alt}. Arrow keys move the point, Enter asks what is there.`);
    frame.style.maxWidth = `calc(80vh * ${width / height})`;
    frame.style.flex = data.second && data.view !== "Before and after" ? "1 1 19rem" : "1 1 100%";
    frame.append(...images, cross);
    frame.onpointermove = (event) => tell(...place(event, frame));
    frame.onpointerleave = () => at ? tell(...at) : says.replaceChildren();
    frame.onclick = (event) => { at = place(event, frame); mark(); tell(...at); send(); };
    frame.onkeydown = (event) => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (step) {
        const far = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
        at = at || [width >> 1, height >> 1];
        at = [Math.min(width - 1, Math.max(0, at[0] + step[0] * far)),
              Math.min(height - 1, Math.max(0, at[1] + step[1] * far))];
        mark(); tell(...at); event.preventDefault();
      } else if (event.key === "Enter" && at) { send(); event.preventDefault(); }
    };
    return frame;
  };
  const keep = row.getRootNode().activeElement;
  const focused = keep && keep.classList && keep.classList.contains("frame");
  if (data.view === "Before and after") {
    const top = image(data.first, "The image before", "top"), edge = document.createElement("div");
    edge.className = "edge";
    const frame = framed([image(data.second, "The image after segmentation", ""), top]);
    frame.append(edge);
    row.replaceChildren(frame);
    const cut = () => {
      top.style.clipPath = `inset(0 ${100 - wipe.value}% 0 0)`;
      edge.style.left = `${wipe.value}%`;
    };
    wipe.oninput = cut; wipe.hidden = false; cut();
  } else {
    wipe.hidden = true;
    const shown = [framed([image(data.first, data.words[0], "")])];
    if (data.second) shown.push(framed([image(data.second, data.words[1], "")]));
    row.replaceChildren(...shown);
  }
  mark();
  if (focused) row.querySelector(".frame").focus({preventScroll: true});
}
"""
LEGEND_HTML = """
<div class="both"><button type="button" class="all">All</button><button type="button" class="none">None</button></div>
<table class="legend"><tbody></tbody></table>
"""
LEGEND_CSS = """
table {width: 100%; border-collapse: collapse; font: 0.9rem var(--st-font); font-variant-numeric: tabular-nums;
  color: var(--st-text-color)}
td {padding: 0.16rem 0.25rem; vertical-align: middle}
label {display: flex; align-items: center; gap: 0.45rem; cursor: pointer; overflow-wrap: anywhere}
input {accent-color: var(--st-primary-color); width: 1rem; height: 1rem; flex: none; margin: 0}
.swatch {flex: none; width: 1rem; height: 1rem; border-radius: 0.2rem; box-shadow: inset 0 0 0 1px #0004,
  0 0 0 1px #fff3}
.bar {width: 26%}
.bar span {display: block; height: 0.45rem; border-radius: 0.2rem; min-width: 2px; box-shadow: 0 0 0 1px #8884}
.share {text-align: right; width: 3.4rem}
.off .swatch, .off .bar span {opacity: 0.15}
.both {display: flex; gap: 0.4rem; margin-bottom: 0.3rem}
.both button {font: 0.8rem var(--st-font); color: var(--st-text-color); background: none; cursor: pointer;
  border: 1px solid var(--st-border-color); border-radius: 0.3rem; padding: 0.1rem 0.6rem}
:focus-visible {outline: 2px solid var(--st-primary-color); outline-offset: 2px}
"""
LEGEND_JS = """
export default function (component) {
  const {parentElement, setStateValue} = component;
  const data = JSON.parse(new TextDecoder().decode(component.data));
  const hidden = new Set(data.hidden);
  const drawn = [];
  const send = () => {
    for (const [id, box, line] of drawn) {
      box.checked = !hidden.has(id);
      line.className = box.checked ? "" : "off";
    }
    setStateValue("switched", {labels: data.labels, hidden: [...hidden]});
  };
  const most = Math.max(...data.rows.map((row) => row.share));
  const active = parentElement.querySelector("tbody").getRootNode().activeElement;
  const focused = active ? active.name : "";
  const lines = data.rows.map((row) => {
    const colour = `rgb(${row.colour.join(", ")})`;
    const line = document.createElement("tr"), name = document.createElement("td");
    const label = document.createElement("label"), box = document.createElement("input");
    const swatch = document.createElement("span"), bar = document.createElement("td");
    const length = document.createElement("span"), share = document.createElement("td");
    box.type = "checkbox"; box.checked = !hidden.has(row.id); box.name = `class${row.id}`;
    swatch.className = "swatch"; swatch.style.background = colour;
    label.append(box, swatch, row.name); name.append(label);
    bar.className = "bar"; length.style.width = `${100 * row.share / most}%`; length.style.background = colour;
    bar.append(length);
    share.className = "share"; share.textContent = `${(100 * row.share).toFixed(1)}%`;
    line.append(name, bar, share);
    line.className = box.checked ? "" : "off";
    box.onchange = () => { box.checked ? hidden.delete(row.id) : hidden.add(row.id); send(); };
    drawn.push([row.id, box, line]);
    return line;
  });
  parentElement.querySelector("tbody").replaceChildren(...lines);
  if (focused) { const box = parentElement.querySelector(`[name="${focused}"]`); if (box) box.focus(); }
  parentElement.querySelector(".all").onclick = () => { hidden.clear(); send(); };
  parentElement.querySelector(".none").onclick = () => { data.rows.forEach((row) => hidden.add(row.id)); send(); };
}
"""

_viewer = st.components.v2.component("kerbside_viewer", html=VIEWER_HTML, css=VIEWER_CSS, js=VIEWER_JS)
_legend = st.components.v2.component("kerbside_legend", html=LEGEND_HTML, css=LEGEND_CSS, js=LEGEND_JS)

OVERLAY, BESIDE, WIPE, OUTLINES = VIEWS = ("Overlay", "Side by side", "Before and after", "Outlines")


def sent(data: dict[str, Any]) -> bytes:
    """JSON as bytes, which Streamlit hands on as they are: for a dict it would import pandas, to look for a data frame
    in it, and the first visitor would wait a second for that."""
    return json.dumps(data).encode()


def address(rgb: Any, kind: str = ".jpg") -> str:
    """An image as an address that holds all of it."""
    mime = "jpeg" if kind == ".jpg" else "png"
    return f"data:image/{mime};base64,{base64.b64encode(encoded(rgb, kind)).decode()}"


def show_image(
    screen: Segmentation, size: tuple[int, int], view: str, shown: tuple[Any, ...], token: str, key: str
) -> tuple[int, int] | None:
    """Show one or two images of `screen`'s size; the point (x, y) that was clicked, in pixels of `size` (H, W).

    `token` names the image: a point on another one is forgotten.
    """
    point = _state(key, "point")
    at = (int(point["x"]), int(point["y"])) if point and point.get("image") == token else None
    present = screen.shares()
    words = ("The image", "The mask") if view == BESIDE else (f"The image: {view.lower()}", "")
    _viewer(
        key=key,
        data=sent(
            {
                "image": token,
                "view": view,
                "words": words,
                "size": list(size),
                "first": address(shown[0]),
                "second": address(shown[1]) if len(shown) > 1 else None,
                "ids": address(screen.ids, ".png"),
                "classes": {
                    str(index): [screen.name_of(index), "rgb({}, {}, {})".format(*screen.colour_of(index))]
                    for index in present
                },
                "point": at,
            }
        ),
        on_point_change=lambda: None,
    )
    return at


def hidden_classes(labels: tuple[str, ...], key: str) -> tuple[int, ...]:
    """The classes that the visitor has switched off; none where the labels are others than those switched."""
    switched = _state(key, "switched")
    if not switched or switched.get("labels") != _token(labels):
        return ()
    return tuple(sorted(index for index in map(int, switched.get("hidden", ())) if 0 <= index < 256))


def show_legend(rows: list[dict[str, Any]], labels: tuple[str, ...], key: str) -> None:
    """Colours, names and shares, a switch each: see `hidden_classes`."""
    data = {"rows": rows, "labels": _token(labels), "hidden": list(hidden_classes(labels, key))}
    _legend(key=key, data=sent(data), on_switched_change=lambda: None)


def _token(labels: tuple[str, ...]) -> str:
    return f"{len(labels)}:{'|'.join(labels)}"


def _state(key: str, name: str) -> Any:
    """What a component has said, before it is shown in this run; None when it has said nothing."""
    state = st.session_state.get(key)
    return state.get(name) if state else None
