// What the widgets share. The default export of each is `{ render }`, and in `render({ model, el })`
// `model` is anywidget's, or any object with its `get`, `set`, `save_changes` and `on`.

const SVG = "http://www.w3.org/2000/svg";

/** The direction of each arrow key, x and y (downwards). */
export const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

function attribute(made, attributes) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A new HTML element. */
export function element(tag, attributes = {}, ...children) {
  const made = attribute(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

/** A new SVG element, at the end of `parent`. */
export function shape(parent, tag, attributes) {
  return parent.appendChild(attribute(document.createElementNS(SVG, tag), attributes));
}

/** Path data of a line through points [x, y]; a closed point shows as a dot. */
export function line(points) {
  return `M${points.map((point) => point.join(" ")).join("L")}${points.length > 1 ? "" : "z"}`;
}

/** Call `heed` when one of the values changes; `names` are separated by spaces. */
export function listen(model, names, heed) {
  for (const name of names.split(" ")) model.on(`change:${name}`, heed);
}

/** A folded list of keys and what they do. */
export function keyHelp(keys) {
  const rows = Object.entries(keys).flatMap(([key, text]) => [
    element("dt", {}, ...key.split(" ").map((name) => element("kbd", {}, name))),
    element("dd", {}, text),
  ]);
  return element(
    "details",
    { class: "doodle-keys" },
    element("summary", {}, "Keys"),
    element("dl", {}, ...rows),
  );
}

/** Set a value, and tell the kernel. */
export function save(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

/** Let `el` and all in it have its keys, of which JupyterLab would take those that it knows. */
export function keepKeys(el) {
  for (const one of [el, ...el.querySelectorAll("[tabindex], input, select, button, summary")]) {
    one.dataset.lmSuppressShortcuts = "true";
  }
}
