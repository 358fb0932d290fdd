// A map of dots: pointing at one shows its drawing, choosing two asks for the path between them.

import { ARROWS, element, keepKeys, save, shape } from "./dom.js";

const NEAR = 14; // px of the map within which a dot counts as pointed at
const LABEL = "Map of drawings. Arrow keys go from one to the next, enter chooses.";

function render({ model, el }) {
  const places = model.get("places");
  const labels = model.get("labels");
  el.classList.add("doodles", "doodle-map");
  const field = el.appendChild(element("div", { class: "doodle-field" }));
  field.innerHTML = model.get("picture");
  const map = field.querySelector("svg");
  const { width, height } = map.viewBox.baseVal;
  Object.assign(map, { tabIndex: 0, role: "application", ariaLabel: LABEL });
  const path = shape(map, "polyline", { class: "doodle-path" });
  const rings = [0, 1].map(() => shape(map, "circle", { class: "doodle-chosen", r: 8 }));
  const ring = shape(map, "circle", { class: "doodle-current", r: 8 });
  const card = field.appendChild(element("div", { class: "doodle-card" }));
  const ink = shape(shape(card, "svg", { viewBox: "-12 -12 279 279" }), "path", { class: "doodle-ink" });
  const name = card.appendChild(element("p", { role: "status" }));
  keepKeys(el);
  let current = -1;

  function circle(made, index) {
    made.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    made.setAttribute("cx", places[index][0]);
    made.setAttribute("cy", places[index][1]);
  }

  function point(index) {
    current = index;
    circle(ring, index);
    card.hidden = index < 0;
    if (index < 0) return;
    const [x, y] = places[index];
    card.style.left = `${(100 * x) / width}%`;
    card.style.top = `${(100 * y) / height}%`;
    card.classList.toggle("doodle-card-left", x > width / 2); // so that it stays on the map
    card.classList.toggle("doodle-card-above", y > height / 2);
    ink.setAttribute("d", model.get("outlines")[index]);
    name.textContent = labels[index];
  }

  function choose(index) {
    const before = model.get("chosen");
    if (before.length === 1 && before[0] === index) return;
    save(model, "chosen", before.length === 1 ? [...before, index] : [index]);
  }

  /** Index of the dot with the least `cost` of the way to it, or -1 where all are infinite. */
  function least(x, y, cost) {
    const costs = places.map(([px, py]) => cost(px - x, py - y));
    const best = Math.min(...costs);
    return best === Infinity ? -1 : costs.indexOf(best);
  }

  function near(event) {
    const box = map.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const scale = width / box.width;
    return least(x * scale, y * scale, (dx, dy) => {
      const distance = Math.hypot(dx, dy);
      return distance < NEAR ? distance : Infinity;
    });
  }

  map.addEventListener("pointermove", (event) => point(near(event)));
  map.addEventListener("pointerleave", () => point(-1));
  map.addEventListener("click", (event) => {
    const index = near(event); // a finger chooses without having pointed
    point(index);
    if (index >= 0) choose(index);
  });
  map.addEventListener("keydown", (event) => {
    const [ahead, aside] = ARROWS[event.key] ?? [];
    if (ahead !== undefined) {
      const [x, y] = places[Math.max(0, current)];
      const next = least(x, y, (dx, dy) => {
        const forward = dx * ahead + dy * aside;
        return forward > 0 ? forward + 3 * Math.abs(dx * aside + dy * ahead) : Infinity;
      });
      point(current < 0 ? 0 : next < 0 ? current : next);
    } else if (event.key === "Enter" && current >= 0) choose(current);
    else return;
    event.preventDefault();
  });

  function follow() {
    const chosen = model.get("chosen");
    rings.forEach((made, i) => circle(made, chosen[i] ?? -1));
    path.setAttribute("points", model.get("path").join(" "));
  }
  model.on("change:chosen change:path", follow);
  follow();
  point(-1);
}

export default { render };
