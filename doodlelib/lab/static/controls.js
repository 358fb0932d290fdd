// Labelled inputs of the browser's own kinds. What is set goes to the kernel when it is let go.

import { element, keepKeys, save } from "./dom.js";

function input(field) {
  if (field.kind === "text") {
    const id = `doodle-${Math.random()}`;
    const list = element("datalist", { id }, ...field.suggestions.map((word) => new Option(word)));
    return element("input", { type: "text", list: id }, list);
  }
  if (field.kind === "choice") {
    const options = Object.entries(field.options).map(([value, text]) => new Option(text, value));
    return element("select", {}, ...options);
  }
  const { kind: type, min, max, step } = field;
  return element("input", { type, min, max, step });
}

function render({ model, el }) {
  el.classList.add("doodles", "doodle-controls");
  const fields = model.get("fields");
  const rows = Object.entries(fields).map(([name, field]) => {
    const set = Object.assign(input(field), { ariaLabel: field.label });
    const shown = element("output");
    el.append(element("label", {}, field.label, set, shown));

    function show(value) {
      set.value = value;
      if (field.kind === "range") shown.textContent = Number(value).toFixed(field.step < 1 ? 2 : 0);
    }

    set.addEventListener("input", () => field.kind === "range" && show(set.value));
    set.addEventListener("change", () => {
      const value = "min" in field ? set.valueAsNumber : set.value;
      if (!set.checkValidity() || Number.isNaN(value)) return follow(); // back to what holds
      save(model, "values", { ...model.get("values"), [name]: value });
    });
    return [name, show];
  });

  keepKeys(el);

  function follow() {
    for (const [name, show] of rows) show(model.get("values")[name]);
  }
  follow();
  model.on("change:values", follow);
}

export default { render };
