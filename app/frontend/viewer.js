// One image in several views, drawn here from what was sent once: the image, its map of ids, the borders of its classes.
const states = new WeakMap();  // what a visitor has set, by the component's root
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];
const DIM = 0xB0000000;  // what is not looked at, while one class is: black, mostly

export default function (component) {
  const {parentElement, setStateValue, setTriggerValue} = component;
  const data = JSON.parse(new TextDecoder().decode(component.data));
  const find = (name) => parentElement.querySelector(name);
  const root = find(".viewer"), row = find(".row"), says = find(".says"), slider = find(".opacity input");
  const [height, width] = data.size;
  const byId = new Map(data.rows.map((one) => [one.id, one]));

  let state = states.get(root);
  const start = JSON.stringify(data.start);
  if (!state) {  // mounted anew: as it was left, unless the page says otherwise
    state = {...data.start, hidden: new Set(data.start.hidden), zoom: 1, alone: null, bare: false};
    const left = window.kerbsideLooks;
    if (left && left.start === start) Object.assign(state, left.now, {hidden: new Set(left.now.hidden)});
    states.set(root, state);
  }
  if (state.image !== data.image) Object.assign(state, {image: data.image, at: null, zoom: 1, alone: null});
  if (!data.views.includes(state.view)) state.view = data.views[0];  // this model does not say how sure it is
  if (state.alone !== null && !byId.has(state.alone)) state.alone = null;
  const looks = () => ({view: state.view, opacity: state.opacity, hidden: [...state.hidden]});
  const send = () => {
    window.kerbsideLooks = {start, now: looks()};
    say(data, looks());
    setStateValue("looks", looks());
  };

  // Drawing.
  let panes = [];  // of the view
  const table = (view) => {  // colour of each id, as 0xAABBGGRR
    const colours = new Uint32Array(256), wanted = state.hover ?? state.alone;
    const alone = wanted !== null && wanted !== undefined;
    if (alone && view === "Side by side") colours.fill(0xFF000000);
    else if (alone && view !== "Outlines") colours.fill(DIM);
    for (const {id, name, colour: [red, green, blue]} of data.rows) {
      if (id >= data.classes || (alone ? id !== wanted : state.hidden.has(name))) continue;
      const opaque = alone && view !== "Side by side" && view !== "Outlines";
      const part = opaque ? Math.round(255 * Math.max(0.4, state.opacity)) : 255;
      colours[id] = ((part << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
    return [colours, alone];
  };
  const paint = () => {
    for (const {canvas} of panes) {
      const map = canvas && (state.view === "Outlines" ? state.borders : state.ids);
      if (!map) continue;
      const [colours, alone] = table(state.view), {width: columns, height: lines, ids} = map;
      if (canvas.width !== columns || canvas.height !== lines) { canvas.width = columns; canvas.height = lines; }
      const context = canvas.getContext("2d"), drawn = context.createImageData(columns, lines);
      const pixels = new Uint32Array(drawn.data.buffer);
      for (let at = 0; at < ids.length; at++) pixels[at] = colours[ids[at]];
      context.putImageData(drawn, 0, 0);
      canvas.dataset.alone = alone;
    }
    blend();
  };
  const tinted = () => state.view === "Overlay" || state.view === "Before and after";
  const blend = () => {
    for (const {canvas} of panes) {
      if (!canvas) continue;
      canvas.style.opacity = tinted() && canvas.dataset.alone !== "true" ? state.opacity : 1;
      canvas.style.visibility = state.bare && !canvas.classList.contains("mask") ? "hidden" : "";
    }
    slider.value = state.opacity;
    find(".opacity").classList.toggle("idle", !tinted());
    find(".scale").hidden = state.view !== "How sure"; find(".opacity").hidden = state.view === "How sure";
  };

  // What is under the pointer, and what is at the point that was asked for.
  const place = (event, frame) => {
    const box = frame.getBoundingClientRect();
    const part = (value, from, length) => Math.min(0.999999, Math.max(0, (value - from) / length));
    return [Math.floor(part(event.clientX, box.left, box.width) * width),
            Math.floor(part(event.clientY, box.top, box.height) * height)];
  };
  const cell = (x, y) => {
    const {width: columns, height: lines} = state.ids;
    return Math.min(lines - 1, Math.floor((y + 0.5) / height * lines)) * columns
      + Math.min(columns - 1, Math.floor((x + 0.5) / width * columns));
  };
  const tell = (x, y, asked) => {
    if (!state.ids) return;
    const at = cell(x, y), id = state.ids.ids[at];
    const entry = byId.get(id) || {shown: "ignored", colour: [0, 0, 0], share: 0};
    const swatch = made("b"), words = `${entry.shown} (class ${id})`;
    swatch.style.background = `rgb(${entry.colour.join(", ")})`;
    if (!asked) { says.replaceChildren(swatch, `${words} at ${x}, ${y}`); return; }
    const cells = state.ids.ids.length, size = regionSize(state.ids, at);
    const about = cells === width * height ? "" : "about ";
    const pixels = Math.round(size / cells * width * height).toLocaleString("en");
    says.replaceChildren(swatch, `${words}, in a region of ${about}${pixels} pixels; `
      + `${percent(entry.share)} of the image is of this class. `);
    if (byId.has(id)) says.append(onlyButton(id, entry.shown, `Show ${entry.shown} alone`, "here"));
  };
  const mark = () => row.querySelectorAll(".cross").forEach((cross) => {
    cross.hidden = !state.at;
    if (!state.at) return;
    cross.style.left = `${(state.at[0] + 0.5) / width * 100}%`;
    cross.style.top = `${(state.at[1] + 0.5) / height * 100}%`;
  });
  const ask = () => { mark(); tell(...state.at, true); };

  // One class alone, or without some.
  const only = (id) => { state.alone = state.alone === id ? null : id; paint(); lines(); };
  const onlyButton = (id, name, text, className) => {
    const button = made("button", className, text);
    button.type = "button"; button.dataset.id = id;
    button.setAttribute("aria-pressed", state.alone === id);
    if (className === "only") button.setAttribute("aria-label", `Only ${name}`);
    button.onclick = () => { only(id); if (className === "here" && state.at) tell(...state.at, true); };
    return button;
  };
  const most = Math.max(...data.rows.map((one) => one.share));
  const line = (one) => {
    const box = made("div", "line"), label = made("label"), input = made("input");
    const swatch = made("span", "swatch"), length = made("span", "length"), colour = `rgb(${one.colour.join(", ")})`;
    input.type = "checkbox"; input.name = `class${one.id}`; input.title = `Show ${one.shown} on the image`;
    swatch.style.background = length.style.background = colour;
    length.style.width = `${100 * one.share / most}%`;
    label.append(input, swatch, made("span", "name", one.shown));
    box.append(label, onlyButton(one.id, one.shown, "only", "only"), made("span", "share", percent(one.share)), length);
    box.dataset.id = one.id;
    input.onchange = () => {
      input.checked ? state.hidden.delete(one.name) : state.hidden.add(one.name);
      state.alone = null; paint(); lines(); send();
    };
    box.onpointerenter = (event) => { if (event.pointerType === "mouse") { state.hover = one.id; paint(); } };
    box.onpointerleave = () => { if (state.hover === one.id) { state.hover = null; paint(); } };
    return box;
  };
  const lines = () => parentElement.querySelectorAll(".line").forEach((box) => {
    const one = byId.get(Number(box.dataset.id)), shown = !state.hidden.has(one.name);
    box.querySelector("input").checked = shown;
    box.classList.toggle("off", state.alone === null ? !shown : state.alone !== one.id);
    box.querySelector(".only").setAttribute("aria-pressed", state.alone === one.id);
  });
  const legend = () => {
    const active = root.getRootNode().activeElement, name = active && active.name;
    const [often, rare] = [data.rows.filter((one) => one.share >= 0.0005), data.rows.filter((one) => one.share < 0.0005)];
    const [main, few] = parentElement.querySelectorAll(".legend");
    main.replaceChildren(...often.map(line)); few.replaceChildren(...rare.map(line));
    find(".rare").hidden = !rare.length;
    find(".rare summary").textContent = `${rare.length} more, below 0.1%`;
    lines();
    const again = name && parentElement.querySelector(`[name="${name}"]`);
    if (again) again.focus({preventScroll: true});
  };
  const all = (shown) => {
    if (shown) state.hidden.clear(); else data.rows.forEach((one) => state.hidden.add(one.name));
    state.alone = null; paint(); lines(); send();
  };
  find(".sure").textContent = data.sure === null ? "" : `Mean confidence ${data.sure}`;
  find(".all").onclick = () => all(true);
  find(".none").onclick = () => all(false);

  const viewer = {data, state, place, tell, ask, mark, panes: [], quiet: () => says.replaceChildren(made("i", "", "Point at the image, or tap it: what is there?")), zoom: (by) => zoom(by)};
  const {image, layer, framed, wiped} = panesOf(viewer);
  const build = () => {
    const active = root.getRootNode().activeElement;
    const kept = active && ["frame", "wipe"].find((name) => active.classList.contains(name));
    if (state.view === "Side by side") {
      panes = [framed([image("The image")], "The image"), framed([layer("The mask", "mask")], "The mask")];
      panes.forEach(({pane}) => pane.classList.add("half"));
    } else if (state.view === "Before and after") panes = [wiped()];
    else {
      const words = `The image: ${state.view.toLowerCase()}`, heat = state.view === "How sure";
      panes = [framed(heat ? [image(words, data.heat)] : [image(words), layer("")], words)];
    }
    viewer.panes = panes;
    row.replaceChildren(...panes.map(({pane}) => pane));
    parentElement.querySelectorAll(".views input").forEach((radio) => { radio.checked = radio.value === state.view; });
    mark(); paint(); zoom(0);
    if (kept && row.querySelector(`.${kept}`)) row.querySelector(`.${kept}`).focus({preventScroll: true});
  };
  const look = (view) => { state.view = view; build(); send(); };
  find(".views").replaceChildren(...data.views.map((view) => {
    const label = made("label"), radio = made("input");
    radio.type = "radio"; radio.name = "view"; radio.value = view;
    radio.onchange = () => look(view);
    label.append(radio, view);
    return label;
  }));
  slider.oninput = () => { state.opacity = Number(slider.value); state.alone === null ? blend() : paint(); };
  slider.onchange = send;

  // Zoom: the middle of what is seen stays in the middle.
  const zoom = (by) => {
    const before = state.zoom, at = ZOOMS.indexOf(before);
    state.zoom = by === null ? 1 : ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, at + by))];
    panes.forEach(({pane, frame}) => {
      const middle = [pane.scrollLeft + pane.clientWidth / 2, pane.scrollTop + pane.clientHeight / 2];
      frame.style.width = `${100 * state.zoom}%`;
      pane.classList.toggle("zoomed", state.zoom > 1);
      pane.scrollLeft = middle[0] * state.zoom / before - pane.clientWidth / 2;
      pane.scrollTop = middle[1] * state.zoom / before - pane.clientHeight / 2;
    });
    find(".out").disabled = state.zoom === 1; find(".in").disabled = state.zoom === ZOOMS.at(-1);
    find(".fit").textContent = `${state.zoom}×`;
  };
  find(".in").onclick = () => zoom(1);
  find(".out").onclick = () => zoom(-1);
  find(".fit").onclick = () => zoom(null);

  // The whole screen; where a browser has none for elements (an iPhone's), the whole window.
  const isWhole = () => root.classList.contains("whole") || root.getRootNode().fullscreenElement === root;
  const whole = () => {
    if (document.fullscreenEnabled) isWhole() ? document.exitFullscreen() : root.requestFullscreen();
    else { root.classList.toggle("whole"); root.onfullscreenchange(); }
  };
  root.onfullscreenchange = () => find(".whole[type]").setAttribute("aria-pressed", isWhole());
  find(".whole[type]").onclick = whole;

  const acts = {
    h: () => { state.bare = !state.bare; blend(); }, a: () => all(true), f: whole,
    n: () => setTriggerValue("step", 1), p: () => setTriggerValue("step", -1),
    "+": () => zoom(1), "=": () => zoom(1), "-": () => zoom(-1), "0": () => zoom(null),
  };
  data.views.forEach((view, index) => { acts[index + 1] = () => look(view); });
  listen(root, find, acts);

  legend(); build();
  if (!says.childNodes.length) viewer.quiet();
  state.loaded = (name) => {
    paint();
    if (name === "ids") state.at ? tell(...state.at, true) : viewer.quiet();
  };
  for (const name of ["ids", "borders"]) {
    const from = data[name];
    if (state[`${name}From`] === from) continue;
    state[`${name}From`] = from; state[name] = null;
    read(from, (map) => {
      if (state[`${name}From`] !== from) return;
      state[name] = map; state.loaded(name);
    });
  }
}
