// The map of ids of an image, and small helpers of the viewer.
const made = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

// The pixels of one class as numbers, once an address: {width, height, ids}.
const read = (source, then) => {
  const reader = new Image();
  reader.onload = () => {
    const canvas = made("canvas"), {width, height} = reader;
    canvas.width = width; canvas.height = height;
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(reader, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data, ids = new Uint8Array(width * height);
    for (let at = 0; at < ids.length; at++) ids[at] = pixels[4 * at];
    then({width, height, ids});
  };
  reader.src = source;
};

// How many pixels the connected region of a place has, diagonal neighbours included; as app/edits.py counts it.
const regionSize = ({width, height, ids}, start) => {
  const seen = new Uint8Array(ids.length), stack = [start], id = ids[start];
  let size = 0;
  seen[start] = 1;
  while (stack.length) {
    const at = stack.pop(), x = at % width, y = (at - x) / width;
    size++;
    for (let line = Math.max(0, y - 1); line <= Math.min(height - 1, y + 1); line++)
      for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column++) {
        const next = line * width + column;
        if (!seen[next] && ids[next] === id) { seen[next] = 1; stack.push(next); }
      }
  }
  return size;
};

// Let the address say what is set, as app/address.py writes it a moment later: without a step of the browser's history.
const say = ({first, labels}, {view, opacity, hidden}) => {
  const address = new URL(window.location), asked = address.searchParams;
  for (const name of ["view", "opacity", "hide"]) asked.delete(name);
  if (view !== first.view) asked.set("view", view.toLowerCase().replaceAll(" ", "-"));
  if (opacity !== first.opacity) asked.set("opacity", opacity);
  hidden.filter((name) => labels.includes(name)).sort().forEach((name) => asked.append("hide", name));
  window.history.replaceState(window.history.state, "", address);
};

const percent = (share) => share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`;
