// The shares of the classes over a video, and the video of the page moved frame by frame.
const SVG = "http://www.w3.org/2000/svg";

function draw(svg, name, attributes) {
  const made = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  svg.appendChild(made);
  return made;
}

// One band a class, stacked: band k of frame x lies between the sums of the shares before it and with it.
function bands(svg, { shares, classes }) {
  const below = shares.map(() => 0);
  classes.forEach(({ name, colour }, k) => {
    const bottom = below.map((sum, x) => [x, 100 - 100 * sum]);
    shares.forEach((row, x) => { below[x] += row[k]; });
    const top = below.map((sum, x) => [x, 100 - 100 * sum]);
    const points = [...top, ...bottom.reverse()].map(pair => pair.join(",")).join(" ");
    draw(draw(svg, "polygon", { points, fill: colour }), "title", {}).textContent = name;
  });
}

export default function (component) {
  const { parentElement } = component;
  const data = JSON.parse(new TextDecoder().decode(component.data));
  const frames = data.shares.length, last = Math.max(1, frames - 1);
  const svg = parentElement.querySelector("svg"), at = parentElement.querySelector(".at");
  const says = parentElement.querySelector(".says");
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${last} 100`);
  svg.setAttribute("aria-label", `Shares of ${data.classes.map(one => one.name).join(", ")} over ${frames} frames`);
  bands(svg, frames > 1 ? data : { ...data, shares: [data.shares[0], data.shares[0]] });
  const lines = ["under", "cursor"].map(name => draw(svg, "line", { y1: 0, y2: 100, class: name }));
  at.max = frames - 1;

  const video = () => document.querySelector(`.st-key-${data.film} video`);
  const show = frame => {
    at.value = frame;
    lines.forEach(line => { line.setAttribute("x1", frame); line.setAttribute("x2", frame); });
    const most = data.classes.map((one, k) => [one.name, data.shares[frame][k]])
      .filter(([, share]) => share >= 0.0005).sort((a, b) => b[1] - a[1]).slice(0, 4)
      .map(([name, share]) => `${name} ${(100 * share).toFixed(1)}%`).join(", ");
    says.textContent = `Frame ${frame + 1} of ${frames}, ${(frame / data.rate).toFixed(2)} s: ${most}`;
    at.setAttribute("aria-valuetext", says.textContent);
  };
  const seek = frame => {
    const inside = Math.min(frames - 1, Math.max(0, frame)), film = video();
    if (film) { film.pause(); film.currentTime = (inside + 0.5) / data.rate; }  // its middle: no rounding to another
    show(inside);
  };
  let tries = 0;
  const listen = () => {  // the video may come after this
    const film = video();
    if (film) {
      film.ontimeupdate = () => show(Math.min(frames - 1, Math.floor(film.currentTime * data.rate + 1e-6)));
    } else if (tries++ < 100) setTimeout(listen, 100);
  };
  at.oninput = () => seek(Number(at.value));
  parentElement.querySelector(".back").onclick = () => seek(Number(at.value) - 1);
  parentElement.querySelector(".on").onclick = () => seek(Number(at.value) + 1);
  svg.onclick = event => {
    const box = svg.getBoundingClientRect();
    seek(Math.round((event.clientX - box.left) / box.width * last));
  };
  show(Math.min(frames - 1, Number(at.value)));
  listen();
}
