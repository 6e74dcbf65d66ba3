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
    const asked = data.told && data.point && x === data.point[0] && y === data.point[1];
    says.replaceChildren(swatch, asked ? data.told : `${entry[0]} (class ${id}) at ${x}, ${y}`);
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
    frame.classList.add("wiped");
    row.replaceChildren(frame, wipe);  // its handle lies under the line, however narrow the image is
    wipe.style.maxWidth = frame.style.maxWidth;
    const cut = () => {
      top.style.clipPath = `inset(0 ${100 - wipe.value}% 0 0)`;
      edge.style.left = `${wipe.value}%`;
    };
    const drag = (event) => {
      const box = frame.getBoundingClientRect();
      wipe.value = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
      cut();
    };
    let from = null, dragged = false;
    const move = frame.onpointermove, click = frame.onclick;
    frame.onpointerdown = (event) => {
      if (event.button) return;
      from = event.clientX; dragged = false;
      frame.setPointerCapture(event.pointerId);
    };
    frame.onpointermove = (event) => {
      if (from !== null && Math.abs(event.clientX - from) > 4) dragged = true;
      if (from !== null && dragged) drag(event); else move(event);
    };
    frame.onpointerup = frame.onpointercancel = () => { from = null; };
    frame.onclick = (event) => { if (!dragged) click(event); };
    wipe.oninput = cut; wipe.hidden = false; cut();
  } else {
    wipe.hidden = true;
    row.after(wipe);
    const shown = [framed([image(data.first, data.words[0], "")])];
    if (data.second) shown.push(framed([image(data.second, data.words[1], "")]));
    row.replaceChildren(...shown);
  }
  mark();
  if (focused) row.querySelector(".frame").focus({preventScroll: true});
}
