// Panes: the image, or the mask, each in a frame that can be larger than its pane.

// `viewer` has the data that was sent, the state, and what a pointer or a key does: place, tell, quiet, ask, mark, zoom.
const panesOf = (viewer) => {
  const {data, state, place, tell, quiet, ask, mark, zoom} = viewer;
  const [height, width] = data.size;
  const image = (words, source = data.rgb) => {
    const shown = made("img");
    shown.src = source; shown.alt = words; shown.draggable = false;
    return shown;
  };
  const layer = (words, className) => {
    const canvas = made("canvas", className);
    canvas.width = state.ids ? state.ids.width : width; canvas.height = state.ids ? state.ids.height : height;
    if (words) { canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", words); }
    return canvas;
  };
  const framed = (parts, words) => {
    const pane = made("div", "pane"), frame = made("div", "frame"), cross = made("div", "cross");
    pane.style.setProperty("--ratio", width / height);
    frame.tabIndex = 0; frame.setAttribute("role", "application");
    frame.setAttribute("aria-label", `${words}. Arrow keys move the point, Enter asks what is there.`);
    frame.append(...parts, cross); pane.append(frame);
    frame.onpointermove = (event) => tell(...place(event, frame));
    frame.onpointerleave = () => state.at ? tell(...state.at, true) : quiet();
    frame.onclick = (event) => { state.at = place(event, frame); ask(); };
    frame.onkeydown = (event) => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (step && event.target === frame) {
        const far = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 50));
        const [x, y] = state.at || [width >> 1, height >> 1];
        state.at = [Math.min(width - 1, Math.max(0, x + step[0] * far)),
                    Math.min(height - 1, Math.max(0, y + step[1] * far))];
        mark(); tell(...state.at); event.preventDefault();
      } else if (event.key === "Enter" && state.at) { ask(); event.preventDefault(); }
    };
    pane.onwheel = (event) => {
      if (event.ctrlKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1 : -1); }
    };
    pane.onscroll = () => viewer.panes.forEach(({pane: other}) => {
      if (other !== pane) { other.scrollLeft = pane.scrollLeft; other.scrollTop = pane.scrollTop; }
    });
    return {pane, frame, canvas: parts.find((part) => part.tagName === "CANVAS")};
  };
  const wiped = () => {
    const one = framed([image("Left of the line, the image; right of it, with its classes"), layer("", "after")],
      "The image before and after");
    const {frame, canvas} = one, wipe = made("input", "wipe"), edge = made("div", "edge");
    wipe.type = "range"; wipe.min = 0; wipe.max = 100; wipe.value = state.wipe ?? 50;
    wipe.setAttribute("aria-label", "Before and after");
    frame.classList.add("wiped"); frame.append(wipe, edge);
    const cut = () => {
      state.wipe = wipe.value;
      canvas.style.clipPath = `inset(0 0 0 ${wipe.value}%)`; edge.style.left = `${wipe.value}%`;
    };
    wipe.oninput = cut; cut();
    let from = null, dragged = false;
    const move = frame.onpointermove, click = frame.onclick;
    frame.onpointerdown = (event) => {
      if (event.button) return;
      from = event.clientX; dragged = false;
      frame.setPointerCapture(event.pointerId);
    };
    frame.onpointermove = (event) => {
      if (from !== null && Math.abs(event.clientX - from) > 4) dragged = true;
      if (from === null || !dragged) { move(event); return; }
      const box = frame.getBoundingClientRect();
      wipe.value = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
      cut();
    };
    frame.onpointerup = frame.onpointercancel = () => { from = null; };
    frame.onclick = (event) => { if (!dragged) click(event); };
    return one;
  };
  return {image, layer, framed, wiped};
};
