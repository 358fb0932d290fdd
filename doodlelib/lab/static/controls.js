// Labelled inputs of the browser's own kinds. What is set goes to the kernel when it is let go, or
// with Enter; what a field does not allow stays there to be mended, and is said below it.

import { element, keepKeys, listen, save } from "./dom.js";

function input(field) {
  if (field.kind === "choice") {
    const options = Object.entries(field.options).map(([value, text]) => new Option(text, value));
    return element("select", {}, ...options);
  }
  const { kind: type, min, max, step } = field;
  return element("input", { type, min, max, step });
}

function render({ model, el }) {
  el.classList.add("doodles", "doodle-controls");
  let rows = []; // [name of a field, function that shows a value in it]

  function row([name, field]) {
    const set = Object.assign(input(field), { ariaLabel: field.label });
    const shown = element("output");
    const fault = element("p", { class: "doodle-fault", role: "alert" });
    el.append(element("div", {}, element("label", {}, field.label, set, shown), fault));

    function show(value) {
      set.value = value;
      tell("");
      if (field.kind === "range") shown.textContent = Number(value).toFixed(field.step < 1 ? 2 : 0);
    }

    function tell(text) {
      fault.textContent = text;
      set.setAttribute("aria-invalid", text !== "");
    }

    function commit() {
      const value = "min" in field ? set.valueAsNumber : set.value;
      const holds = model.get("values")[name];
      if (!set.checkValidity() || Number.isNaN(value)) {
        const kind = field.step === 1 ? "a whole number" : "a number";
        const typed = set.value === "" ? "This" : set.value;
        tell(`${typed} is not ${kind} from ${field.min} to ${field.max}; ${holds} still holds.`);
      } else {
        tell("");
        if (value !== holds) save(model, "values", { ...model.get("values"), [name]: value });
      }
    }

    set.addEventListener("input", () => field.kind === "range" && show(set.value));
    set.addEventListener("change", commit);
    set.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && set.tagName === "INPUT") commit();
    });
    return [name, show];
  }

  function follow() {
    for (const [name, show] of rows) show(model.get("values")[name]);
  }

  function build() {
    el.replaceChildren();
    rows = Object.entries(model.get("fields")).map(row);
    keepKeys(el);
    follow();
  }

  build();
  listen(model, "values", follow);
  listen(model, "fields", build);
}

export default { render };
