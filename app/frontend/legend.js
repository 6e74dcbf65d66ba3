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
    box.title = `Show ${row.name} on the image`;
    swatch.className = "swatch"; swatch.style.background = colour;
    label.append(box, swatch, row.name); name.append(label);
    bar.className = "bar"; length.style.width = `${100 * row.share / most}%`; length.style.background = colour;
    bar.append(length);
    share.className = "share"; share.textContent = row.share < 0.0005 ? "<0.1%" : `${(100 * row.share).toFixed(1)}%`;
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
