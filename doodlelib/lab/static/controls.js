// Labelled inputs of the browser's own kinds. What is set goes to the kernel when it is let go.

function input(field) {
  if (field.kind === "text") {
    const typed = Object.assign(document.createElement("input"), { type: "text" });
    const list = document.createElement("datalist");
    list.append(...field.suggestions.map((word) => new Option(word)));
    list.id = `doodle-${Math.random()}`;
    typed.setAttribute("list", list.id);
    typed.append(list);
    return typed;
  }
  if (field.kind === "choice") {
    const select = document.createElement("select");
    for (const [value, text] of Object.entries(field.options)) select.add(new Option(text, value));
    return select;
  }
  const { kind: type, min, max, step } = field;
  return Object.assign(document.createElement("input"), { type, min, max, step });
}

function render({ model, el }) {
  el.classList.add("doodles", "doodle-controls");
  const fields = model.get("fields");
  const rows = Object.entries(fields).map(([name, field]) => {
    const label = document.createElement("label");
    const set = Object.assign(input(field), { ariaLabel: field.label });
    const shown = document.createElement("output");
    label.append(field.label, set, shown);
    el.append(label);

    function show(value) {
      set.value = value;
      if (field.kind === "range") shown.textContent = Number(value).toFixed(field.step < 1 ? 2 : 0);
    }

    set.addEventListener("input", () => field.kind === "range" && show(set.value));
    set.addEventListener("change", () => {
      const value = "min" in field ? set.valueAsNumber : set.value;
      if (!set.checkValidity() || Number.isNaN(value)) return follow(); // back to what holds
      model.set("values", { ...model.get("values"), [name]: value });
      model.save_changes();
    });
    return [name, show];
  });

  for (const one of [el, ...el.querySelectorAll("[tabindex], input, select, button")]) {
    one.dataset.lmSuppressShortcuts = "true"; // else JupyterLab would take the keys
  }

  function follow() {
    for (const [name, show] of rows) show(model.get("values")[name]);
  }
  follow();
  model.on("change:values", follow);
}

export default { render };
