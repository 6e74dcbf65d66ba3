// Keys that act on the page, and the list of them under "?".
const LETTERS = "kerbside.letters";
const KEYS = [["1", "to", "4", "the view"], ["H", "colours away, and back"], ["N", "next image"], ["P", "previous image"],
  ["A", "all classes again"], ["+", "-", "0", "zoom in, out, whole image"], ["F", "full screen, and back"],
  ["?", "this list"], ["Tab", "to the image; there:"], ["arrows", "move the point, with Shift by one pixel"],
  ["Enter", "what is at the point"]];

// `acts` is what each key does; `find` looks inside the viewer's root.
const listen = (root, find, acts) => {
  const dialog = find("dialog"), letters = find('[name="letters"]');
  letters.checked = window.localStorage.getItem(LETTERS) !== "off";
  letters.onchange = () => window.localStorage.setItem(LETTERS, letters.checked ? "on" : "off");
  find("dl").replaceChildren(...KEYS.flatMap((entry) => {
    const term = made("dt");
    entry.slice(0, -1).forEach((key) => term.append(key === "to" ? " to " : made("kbd", "", key), " "));
    return [term, made("dd", "", entry.at(-1))];
  }));
  const help = () => { if (!dialog.open) dialog.showModal(); };
  find(".help").onclick = help;
  acts["?"] = help;
  document.removeEventListener("keydown", window.kerbsideKeys);
  window.kerbsideKeys = (event) => {
    const [target] = event.composedPath(), act = acts[event.key.toLowerCase()];
    const typing = target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName)
      || (target.tagName === "INPUT" && !/^(checkbox|radio|range|button)$/.test(target.type));
    if (!act || typing || event.ctrlKey || event.metaKey || event.altKey || !root.isConnected || dialog.open) return;
    if (event.key !== "?" && !letters.checked) return;
    act(); event.preventDefault();
  };
  document.addEventListener("keydown", window.kerbsideKeys);
};
