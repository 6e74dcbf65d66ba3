// A Kerbside `scores` file in the browser, through MediaPipe's ImageSegmenter on the CPU.
// Everything comes from this folder: the code and the WebAssembly from the npm package beside this file.
import { joined, placing } from "./fit.js";
import { FilesetResolver, ImageSegmenter } from "./node_modules/@mediapipe/tasks-vision/vision_bundle.mjs";

const WASM = new URL("./node_modules/@mediapipe/tasks-vision/wasm", import.meta.url).href;
const TIMED_RUNS = 5;
const byId = (id) => document.getElementById(id);

let segmenter = null; // MediaPipe's, of the chosen file
let note = null; // kerbside.json of the chosen file: labels, palette, output, size
let image = null; // ImageBitmap
let imageName = "";
let found = null; // {ids, width, height}: a class id a pixel of the image

/** The text of kerbside.json in the ZIP behind the flatbuffer, or null. Its entries are stored, not deflated. */
function readNote(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length - 22; // the end record of an archive without a comment
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) return null;
  let at = view.getUint32(end + 16, true);
  for (let entry = view.getUint16(end + 10, true); entry > 0; entry -= 1) {
    const [nameLength, extra, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (name === "kerbside.json") {
      const size = view.getUint32(at + 24, true);
      const local = view.getUint32(at + 42, true);
      const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
      return JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + size)));
    }
    at += 46 + nameLength + extra + comment;
  }
  return null;
}

async function chooseModel(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const told = readNote(bytes);
  if (!told) throw new Error(`${file.name} carries no kerbside.json; choose a file that python -m export wrote.`);
  if (told.output !== "scores") {
    throw new Error(`${file.name} gives class ids, which MediaPipe does not read; export with --output scores.`);
  }
  const vision = await FilesetResolver.forVisionTasks(WASM);
  const made = await ImageSegmenter.createFromOptions(vision, {
    baseOptions: { modelAssetBuffer: bytes, delegate: "CPU" },
    runningMode: "IMAGE",
    outputCategoryMask: true,
    outputConfidenceMasks: false,
  });
  segmenter?.close();
  [segmenter, note] = [made, told];
}

async function chooseImage(file) {
  try {
    // The bytes of the file, turned upright, in no other colour space: what Kerbside's own runtime reads.
    const decoded = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    image?.close();
    [image, imageName] = [decoded, file.name];
  } catch {
    throw new Error(`${file.name} is not an image that this browser reads; choose a JPEG or PNG.`);
  }
}

/** Class ids of an image, at its size: MediaPipe stretches it to the model's. */
function idsOf(image) {
  const result = segmenter.segment(image);
  const ids = result.categoryMask.getAsUint8Array().slice();
  result.close();
  return ids;
}

/** Class ids of the image, at the image's size, as the chosen fit places it before the model. */
function segmentOnce() {
  const place = placing(byId("fit").value, image, note.size);
  return { ids: joined(place, image, idsOf), width: image.width, height: image.height, fit: place.fit };
}

function run() {
  if (!segmenter || !image) return;
  const times = Array.from({ length: 1 + TIMED_RUNS }, () => {
    const start = performance.now();
    found = segmentOnce();
    return performance.now() - start;
  });
  draw();
  showLegend();
  byId("save").disabled = false;
  byId("result").hidden = false;
  const [first, ...rest] = times.map((value) => value.toFixed(1));
  const best = Math.min(...rest).toFixed(1);
  say(`${best} ms an image (best of ${TIMED_RUNS}; the first took ${first} ms), ` +
    `${note.model} ${note.precision} ${note.size[1]}×${note.size[0]}, ` +
    `${imageName} ${image.width}×${image.height}, ${found.fit}`);
}

/** An ImageData with one colour a class id. */
function painted(colourOf) {
  const image = new ImageData(found.width, found.height);
  const colours = Array.from({ length: 256 }, (_, id) => colourOf(id));
  found.ids.forEach((id, index) => image.data.set(colours[id], 4 * index));
  return image;
}

function draw() {
  const canvas = byId("overlay");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const layer = new OffscreenCanvas(found.width, found.height);
  layer.getContext("2d").putImageData(painted((id) => [...(note.palette[id] ?? [0, 0, 0]), 255]), 0, 0);
  context.globalAlpha = byId("opacity").value / 100;
  context.imageSmoothingEnabled = false;
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
}

function showLegend() {
  const counts = new Array(256).fill(0);
  found.ids.forEach((id) => { counts[id] += 1; });
  const labels = segmenter.getLabels();
  const present = counts.map((count, id) => ({ count, id })).filter(({ count }) => count > 0);
  present.sort((one, other) => other.count - one.count);
  byId("legend").replaceChildren(...present.map(({ count, id }) => {
    const row = document.createElement("tr");
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    square.setAttribute("width", "100%");
    square.setAttribute("height", "100%");
    square.setAttribute("fill", `rgb(${note.palette[id] ?? [0, 0, 0]})`);
    swatch.append(square);
    row.insertCell().append(swatch, labels[id] ?? `class ${id}`);
    row.insertCell().append(`${((100 * count) / found.ids.length).toFixed(1)}%`);
    return row;
  }));
}

/** The class ids as a grey PNG: the pixel's value is its class id. */
async function save() {
  const canvas = new OffscreenCanvas(found.width, found.height);
  canvas.getContext("2d").putImageData(painted((id) => [id, id, id, 255]), 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await canvas.convertToBlob({ type: "image/png" }));
  link.download = "class_ids.png";
  link.click();
  URL.revokeObjectURL(link.href);
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

/** Do what a choice asks for, then segment; what goes wrong becomes one sentence on the page. */
async function on(input, choose) {
  const [file] = input.files;
  if (!file) return;
  say(`reading ${file.name} ...`);
  try {
    await choose(file);
    say(segmenter ? "Choose an image." : "Choose a model.");
    run();
  } catch (error) {
    say(error.message, true);
  }
}

byId("model").addEventListener("change", (event) => on(event.target, chooseModel));
byId("image").addEventListener("change", (event) => on(event.target, chooseImage));
byId("fit").addEventListener("change", () => on(byId("image"), chooseImage));
byId("opacity").addEventListener("input", () => found && draw());
byId("save").addEventListener("click", save);
