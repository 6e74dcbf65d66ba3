// How an image of another shape than the model's comes before it: the rule of runtime/fit.py, in the image's pixels.
// MediaPipe stretches whatever it is given to the model's size, so each window here has the model's aspect.
const WIDE = 2.0; // the image's aspect over the model's, beyond which one window does not do it justice
const TALL = 0.6;
const CLOSER = 1.3; // times a window's longer side: what tiles spread an image over at least
const OVERLAP = 0.25; // of a window with the next one, at least
const MOST_WINDOWS = 32;

/** Where the windows begin that cover `length`, evenly spread. */
function starts(length, side) {
  const step = Math.max(1, Math.floor(side * (1 - OVERLAP)));
  const steps = Math.max(0, Math.ceil((length - side) / step));
  return Array.from({ length: steps + 1 }, (_, index) => Math.round((index * (length - side)) / Math.max(1, steps)));
}

/** Of windows along one axis, where the part ends whose nearest middle is each one's. */
const ends = (begins, side, length) =>
  begins.map((begin, index) => (index + 1 < begins.length ? Math.floor((begin + begins[index + 1] + side) / 2) : length));

/** Windows on an image of width and height, for a model that takes [rows, columns]: {fit, side: {width, height}, xs, ys}. */
export function placing(fit, { width, height }, [rows, columns]) {
  const wider = (width * rows) / (height * columns);
  if (fit === "letterbox") {
    const side = wider > 1 ? { width, height: Math.round((width * rows) / columns) }
      : { width: Math.round((height * columns) / rows), height };
    return { fit, side, xs: [-Math.floor((side.width - width) / 2)], ys: [-Math.floor((side.height - height) / 2)] };
  }
  if (fit === "tiles") {
    const closer = Math.max(1, CLOSER * Math.min(wider, 1 / wider)); // a window is so much smaller than what would cover
    const covering = wider > 1 ? { width: (height * columns) / rows, height } : { width, height: (width * rows) / columns };
    const side = {
      width: Math.max(1, Math.min(width, Math.round(covering.width / closer))),
      height: Math.max(1, Math.min(height, Math.round(covering.height / closer))),
    };
    const place = { fit, side, xs: starts(width, side.width), ys: starts(height, side.height) };
    const count = place.xs.length * place.ys.length;
    if (count > MOST_WINDOWS) {
      throw new Error(`an image of ${width}×${height} takes ${count} tiles, and up to ${MOST_WINDOWS} are run; ` +
        "choose another fit, such as letterbox.");
    }
    return place;
  }
  if (fit === "auto") {
    if (wider >= TALL && wider <= WIDE) return placing(wider > 1 ? "letterbox" : "stretch", { width, height }, [rows, columns]);
    try {
      return placing("tiles", { width, height }, [rows, columns]);
    } catch {
      return placing("letterbox", { width, height }, [rows, columns]);
    }
  }
  return { fit: "stretch", side: { width, height }, xs: [0], ys: [0] };
}

/** Class ids of an image, a byte a pixel: `segment(image)` gives those of a window, each at its own size. */
export function joined(place, image, segment) {
  if (place.fit === "stretch") return segment(image);
  const { width, height } = image;
  const ids = new Uint8Array(width * height);
  const [right, bottom] = [ends(place.xs, place.side.width, width), ends(place.ys, place.side.height, height)];
  place.ys.forEach((y, row) => place.xs.forEach((x, column) => {
    const found = segment(windowOf(image, x, y, place.side));
    const [left, top] = [column ? right[column - 1] : 0, row ? bottom[row - 1] : 0];
    for (let line = top; line < bottom[row]; line += 1) {
      const from = (line - y) * place.side.width - x;
      ids.set(found.subarray(from + left, from + right[column]), line * width + left);
    }
  }));
  return ids;
}

/** The part of the image that a window shows, grey where it reaches beyond the image. */
function windowOf(image, x, y, { width, height }) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false });
  context.fillStyle = "rgb(128 128 128)";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, -x, -y);
  return canvas;
}
