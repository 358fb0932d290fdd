// A map of dots: pointing at one shows its drawing, pointing between them what the model would draw
// there; choosing two dots asks for the path between them.

import { ARROWS, element, keepKeys, keyHelp, listen, save, shape } from "./dom.js";

const NEAR = 10; // px of the map within which a dot counts as pointed at
const STILL = 60; // ms that the cursor rests before the model is asked for a place
const LABEL = "Map of drawings. Arrow keys go from one to the next, enter chooses.";
const KEYS = {
  "← → ↑ ↓": "to the next dot",
  "Enter": "choose a dot; two show the way between them",
  Escape: "let go",
};

function render({ model, el }) {
  el.classList.add("doodles", "doodle-map");
  const field = element("div", { class: "doodle-field" });
  const picture = field.appendChild(element("div"));
  const card = field.appendChild(element("div", { class: "doodle-card" }));
  const ink = shape(shape(card, "svg", { viewBox: "-12 -12 279 279" }), "path", { class: "doodle-ink" });
  const name = card.appendChild(element("p", { role: "status" }));
  const mine = element("button", { type: "button" }, "Show my drawing");
  el.append(field, element("div", { class: "doodle-row" }, mine, keyHelp(KEYS)));

  let places = [];
  let map, path, rings, ring;
  let [width, height] = [1, 1];
  let current = -1; // the dot that is pointed at
  let asked = 0; // timer of a question to the model
  let wanted = null; // place that was last pointed at between the dots

  function circle(made, index) {
    made.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    made.setAttribute("cx", places[index][0]);
    made.setAttribute("cy", places[index][1]);
  }

  function showCard([x, y], outline, text) {
    card.hidden = false;
    card.style.left = `${(100 * x) / width}%`;
    card.style.top = `${(100 * y) / height}%`;
    card.classList.toggle("doodle-card-left", x > width / 2); // so that it stays on the map
    card.classList.toggle("doodle-card-above", y > height / 2);
    ink.setAttribute("d", outline);
    name.textContent = text;
  }

  function point(index) {
    current = index;
    circle(ring, index);
    card.hidden = index < 0;
    clearTimeout(asked);
    wanted = null;
    if (index >= 0) showCard(places[index], model.get("outlines")[index], model.get("labels")[index]);
  }

  /** Ask the model for a drawing of a place, once the cursor rests there. */
  function ask(place, isPlayed) {
    point(-1);
    wanted = place.map((px) => Math.round(px * 10) / 10);
    const cursor = [...wanted, isPlayed];
    asked = setTimeout(() => save(model, "cursor", cursor), isPlayed ? 0 : STILL);
  }

  function answer() {
    const [x, y, outline, text] = model.get("decoded");
    if (wanted && wanted[0] === x && wanted[1] === y) showCard([x, y], outline, text);
  }

  function choose(index) {
    const before = model.get("chosen");
    if (before.length === 1 && before[0] === index) return;
    save(model, "chosen", before.length === 1 ? [...before, index] : [index]);
  }

  /** Index of the dot with the least `cost` of the way to it, or -1 where all are infinite. */
  function least([x, y], cost) {
    const costs = places.map(([px, py]) => cost(px - x, py - y));
    const best = Math.min(...costs);
    return best === Infinity ? -1 : costs.indexOf(best);
  }

  function placeOf(event) {
    const box = map.getBoundingClientRect();
    const scale = width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  function near(place) {
    return least(place, (dx, dy) => {
      const distance = Math.hypot(dx, dy);
      return distance < NEAR ? distance : Infinity;
    });
  }

  picture.addEventListener("pointermove", (event) => {
    if (!map.contains(event.target)) return point(-1);
    const index = near(placeOf(event));
    if (index >= 0) point(index);
    else ask(placeOf(event), false);
  });
  picture.addEventListener("pointerleave", () => point(-1));
  picture.addEventListener("click", (event) => {
    if (!map.contains(event.target)) return;
    const index = near(placeOf(event)); // a finger chooses without having pointed
    if (index < 0) return ask(placeOf(event), true);
    point(index);
    choose(index);
  });
  picture.addEventListener("keydown", (event) => {
    const [ahead, aside] = ARROWS[event.key] ?? [];
    if (ahead !== undefined) {
      const next = least(places[Math.max(0, current)], (dx, dy) => {
        const forward = dx * ahead + dy * aside;
        return forward > 0 ? forward + 3 * Math.abs(dx * aside + dy * ahead) : Infinity;
      });
      point(current < 0 ? 0 : next < 0 ? current : next);
    } else if (event.key === "Enter" && current >= 0) choose(current);
    else if (event.key === "Escape") point(-1);
    else return;
    event.preventDefault();
  });
  mine.addEventListener("click", () => save(model, "asked", model.get("asked") + 1));

  function build() {
    picture.innerHTML = model.get("picture");
    places = model.get("places");
    map = picture.querySelector("svg");
    ({ width, height } = map.viewBox.baseVal);
    Object.assign(map, { tabIndex: 0, role: "application", ariaLabel: LABEL });
    path = shape(map, "polyline", { class: "doodle-path" });
    rings = [0, 1].map(() => shape(map, "circle", { class: "doodle-chosen", r: 7 }));
    ring = shape(map, "circle", { class: "doodle-current", r: 7 });
    mine.hidden = !model.get("has_own");
    keepKeys(el);
    point(-1);
    follow();
  }

  function follow() {
    const chosen = model.get("chosen");
    rings.forEach((made, i) => circle(made, chosen[i] ?? -1));
    path.setAttribute("points", model.get("path").join(" "));
  }

  build();
  listen(model, "picture", build);
  listen(model, "chosen path", follow);
  listen(model, "decoded", answer);
}

export default { render };
