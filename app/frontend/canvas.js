const SVG = "http://www.w3.org/2000/svg";
const states = new WeakMap();

function draw(svg, name, attributes) {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  svg.appendChild(made);
}

// The connected region of one id, diagonal neighbours included, as 1s; as app/edits.py counts it.
function region(ids, width, height, start) {
  const inside = new Uint8Array(width * height), id = ids[4 * start], stack = [start];
  inside[start] = 1;
  while (stack.length) {
    const at = stack.pop(), x = at % width, y = (at - x) / width;
    for (let dy = -1; dy < 2; dy++) for (let dx = -1; dx < 2; dx++) {
      const column = x + dx, line = y + dy, next = line * width + column;
      if (column < 0 || line < 0 || column >= width || line >= height) continue;
      if (!inside[next] && ids[4 * next] === id) { inside[next] = 1; stack.push(next); }
    }
  }
  return inside;
}

function preview(canvas, data, state, shown) {
  const map = state.map;
  if (!shown || !map || map.source !== data.ids) { canvas.hidden = true; return; }
  canvas.hidden = false;
  const [x, y] = state.cross;
  const column = Math.min(map.width - 1, Math.floor((x + 0.5) / data.width * map.width));
  const start = Math.min(map.height - 1, Math.floor((y + 0.5) / data.height * map.height)) * map.width + column;
  if (map.inside && map.inside[start]) return;
  map.inside = region(map.data, map.width, map.height, start);
  canvas.width = map.width; canvas.height = map.height;
  const context = canvas.getContext("2d"), drawn = context.createImageData(map.width, map.height);
  map.inside.forEach((is, at) => { if (is) drawn.data.set([255, 255, 255, 120], 4 * at); });
  context.putImageData(drawn, 0, 0);
}

function read(data, state, then) {
  if (!data.ids || (state.map && state.map.source === data.ids)) return;
  const reader = new Image();
  reader.onload = () => {
    const canvas = document.createElement("canvas"), { width, height } = reader;
    canvas.width = width; canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(reader, 0, 0);
    state.map = { source: data.ids, width, height, data: context.getImageData(0, 0, width, height).data };
    then();
  };
  reader.src = data.ids;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const frame = parentElement.querySelector(".frame"), svg = parentElement.querySelector("svg");
  const image = parentElement.querySelector("img");
  const close = parentElement.querySelector(".close"), back = parentElement.querySelector(".back");
  const place = parentElement.querySelector(".place"), light = parentElement.querySelector(".preview");
  const { width, height, mode } = data;
  let state = states.get(frame);
  const size = `${width}x${height}`;
  if (!state || state.serial !== data.serial || state.mode !== mode || state.size !== size) {
    const cross = state && state.size === size ? state.cross : [width >> 1, height >> 1];
    state = { serial: data.serial, mode, size, corners: [], cross, keyed: false, map: state && state.map };
    states.set(frame, state);
  }
  if (image.src !== data.image) image.src = data.image;
  frame.setAttribute("aria-label", data.label);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  close.hidden = back.hidden = mode !== "polygon";
  const lit = () => preview(light, data, state, mode === "point" && (state.over || state.keyed));
  read(data, state, lit);

  function show() {
    svg.replaceChildren();
    lit();
    const unit = width / Math.max(1, frame.clientWidth);
    if (data.box) {
      const [x1, y1, x2, y2] = data.box;
      const shape = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
      draw(svg, "rect", { ...shape, class: "under" });
      draw(svg, "rect", { ...shape, class: "line" });
    }
    data.marks.forEach(([x, y, inside]) => draw(svg, "circle", {
      cx: x + 0.5, cy: y + 0.5, r: 6 * unit, fill: inside ? "#1c7ed6" : "#e8590c", stroke: "#fff" }));
    let corners = state.corners.map(([x, y]) => [x + 0.5, y + 0.5]);
    if (mode === "box" && corners.length) {
      const [[x1, y1]] = corners, [x2, y2] = state.cross;
      corners = [[x1, y1], [x2, y1], [x2, y2], [x1, y2], [x1, y1]];
    }
    const line = corners.map(pair => pair.join(",")).join(" ");
    if (mode === "brush") paint(unit);
    else ["under", "line"].forEach(name => draw(svg, "polyline", { points: line, class: name }));
    if (mode !== "brush") state.corners.forEach(([x, y]) => draw(svg, "circle", {
      cx: x + 0.5, cy: y + 0.5, r: 4 * unit, fill: "#fff", stroke: "#000" }));
    if (state.keyed) {
      const [x, y] = state.cross, arm = 12 * unit;
      const path = `M${x - arm},${y}h${2 * arm}M${x},${y - arm}v${2 * arm}`;
      ["under", "cross"].forEach(name => draw(svg, "path", { d: path, class: name }));
    }
    close.disabled = state.corners.length < 3;
    back.disabled = !state.corners.length;
  }

  // What is being painted, or was and is not back from the server yet; and the brush where the pointer is.
  function paint(unit) {
    const line = state.corners.length ? state.corners : state.sent || [];
    if (line.length) {
      const [first] = line, ends = line.length > 1 ? line : [first, first];
      draw(svg, "polyline", { points: ends.map(([x, y]) => `${x + 0.5},${y + 0.5}`).join(" "), class: "stroke",
        "stroke-width": data.brush.width, stroke: data.brush.colour });
    }
    if (!state.over && !state.keyed) return;
    const [x, y] = state.cross, around = { cx: x + 0.5, cy: y + 0.5, r: Math.max(2 * unit, data.brush.width / 2), fill: "none" };
    draw(svg, "circle", { ...around, stroke: "#000", "stroke-width": 3, "stroke-opacity": 0.5 });
    draw(svg, "circle", { ...around, stroke: "#fff", "stroke-width": 1.5 });
  }

  function brushTo(point) {
    const [x, y] = state.corners[state.corners.length - 1];
    if (Math.hypot(point[0] - x, point[1] - y) < Math.max(1, data.brush.width / 8)) return;
    state.corners.push(point);
    if (state.corners.length > 900) state.corners = state.corners.filter((_, at) => at % 2 === 0 || at === 900);
  }

  function tell() {
    const [x, y] = state.cross;
    place.textContent = `x ${x}, y ${y}` + (mode !== "brush" && state.corners.length ? `, corners ${state.corners.length}` : "");
  }

  function send(points) {
    state.sent = points;
    state.corners = [];
    setTriggerValue("drawn", { kind: mode, points });
  }

  function finish() {
    if (state.corners.length > 2) send(state.corners);
    show();
    tell();
  }

  function click(x, y) {
    state.cross = [x, y];
    if (mode === "point" || mode === "brush") send([[x, y]]);
    else {
      const first = state.corners[0], near = 8 * width / Math.max(1, frame.clientWidth);
      const closes = mode === "polygon" && state.corners.length > 2;
      if (closes && Math.hypot(x - first[0], y - first[1]) < near) return finish();
      state.corners = [...state.corners, [x, y]];
      if (mode === "box" && state.corners.length === 2) {
        const [[x1, y1], [x2, y2]] = state.corners;
        send([[Math.min(x1, x2), Math.min(y1, y2)], [Math.max(x1, x2), Math.max(y1, y2)]]);
      }
    }
    show();
    tell();
  }

  function at(event) {
    const frame_at = image.getBoundingClientRect();
    const x = Math.floor((event.clientX - frame_at.left) / frame_at.width * width);
    const y = Math.floor((event.clientY - frame_at.top) / frame_at.height * height);
    return [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
  }

  frame.style.touchAction = mode === "brush" ? "none" : "";  // a finger paints, and does not scroll
  frame.onpointerdown = event => {
    if (mode === "brush" && !event.button) {
      frame.setPointerCapture(event.pointerId);
      state.painting = true;
      state.corners = [at(event)];
      show();
    }
    if (event.button || mode !== "box" || state.corners.length) return;
    state.pressed = at(event);
  };
  frame.onpointermove = event => {
    state.cross = at(event);
    state.keyed = false;
    if (state.pressed && !state.corners.length) {
      const far = Math.hypot(state.cross[0] - state.pressed[0], state.cross[1] - state.pressed[1]);
      if (far > 5 * width / Math.max(1, frame.clientWidth)) state.corners = [state.pressed];
    }
    state.over = true;
    if (state.painting && state.corners.length) brushTo(state.cross);
    if (mode !== "point") show();
    lit();
    tell();
  };
  frame.onpointerup = () => {
    if (state.painting && state.corners.length) send(state.corners);
    state.painting = false;
  };
  frame.onpointercancel = () => { state.painting = false; state.corners = []; show(); };
  frame.onpointerleave = () => { state.over = false; if (mode === "brush") show(); lit(); };
  frame.onclick = event => {
    frame.focus({ preventScroll: true });
    state.pressed = null;
    state.keyed = false;
    if (mode !== "brush") click(...at(event));
  };
  frame.onkeydown = event => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (moves[event.key]) {
      const [dx, dy] = moves[event.key], [x, y] = state.cross;
      state.cross = [Math.min(width - 1, Math.max(0, x + dx)), Math.min(height - 1, Math.max(0, y + dy))];
      state.keyed = true;
    } else if (event.key === "Enter" || event.key === " ") click(...state.cross);
    else if (event.key === "Backspace") state.corners = state.corners.slice(0, -1);
    else if (event.key === "Escape") state.corners = [];
    else if (event.key.toLowerCase() === "c" && !event.ctrlKey && !event.metaKey) finish();
    else return;
    event.preventDefault();
    event.stopPropagation();
    show();
    tell();
  };
  frame.onfocus = () => { state.keyed = frame.matches(":focus-visible"); show(); };
  frame.onblur = () => { state.keyed = false; show(); };
  close.onclick = finish;
  back.onclick = () => { state.corners = state.corners.slice(0, -1); show(); tell(); };
  image.onload = show;
  show();
}
