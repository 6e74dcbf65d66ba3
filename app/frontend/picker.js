// Small images to choose one from, in groups; those that a visitor gave can be taken away.
export default function (component) {
  const {parentElement, setTriggerValue} = component;
  const {groups, chosen, most} = JSON.parse(new TextDecoder().decode(component.data));
  const place = parentElement.querySelector(".groups");
  const active = place.getRootNode().activeElement, focused = active ? active.value : null;
  const made = (name, className, text) => {
    const element = document.createElement(name);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  };
  const item = ({id, name, image}, removes) => {
    const box = made("div", "item"), label = made("label"), radio = made("input");
    radio.type = "radio"; radio.name = "picked"; radio.value = id; radio.checked = id === chosen;
    radio.onchange = () => setTriggerValue("chosen", id);
    const shown = image ? made("img") : made("span", "none", "?");
    if (image) { shown.src = image; shown.alt = ""; }
    const words = made("span", "name", name);
    words.title = name;
    label.append(radio, shown, words); box.append(label);
    if (removes) {
      const away = made("button", "", "×");
      away.type = "button"; away.title = `Remove ${name}`; away.setAttribute("aria-label", away.title);
      away.onclick = () => setTriggerValue("removed", id);
      box.append(away);
    }
    return box;
  };
  place.replaceChildren(...groups.map(({title, items, removes}) => {
    const group = made("fieldset"), list = made("div", "items");
    list.append(...items.map((one) => item(one, removes)));
    group.append(made("legend", "", title), list);
    return group;
  }));
  // Streamlit refuses too large a file in its own words before the page hears of it; these say which image is shown.
  const fault = parentElement.querySelector(".fault");
  const heard = (event) => {
    const [target] = event.composedPath(), inside = target.closest && target.closest('[class*="_upload"]');
    const files = [...((event.dataTransfer || target).files || [])], large = files.filter((file) => file.size > most * 2 ** 20);
    if (!inside || !files.length || !place.isConnected) return;
    const shown = groups.flatMap(({items}) => items).find(({id}) => id === chosen);
    fault.textContent = large.map(({name, size}) =>
      `${name} has ${Math.round(size / 2 ** 20)} MB; files of up to ${most} MB are taken. `).join("")
      + (large.length && shown ? `The image shown is still ${shown.name}.` : "");
  };
  ["change", "drop"].forEach((kind) => {
    document.removeEventListener(kind, (window.kerbsideHeard || {})[kind], true);
    document.addEventListener(kind, heard, true);
    window.kerbsideHeard = {...window.kerbsideHeard, [kind]: heard};
  });
  if (focused !== null) {
    const again = [...place.querySelectorAll("input")].find((radio) => radio.value === focused);
    if (again) again.focus();
  }
}
