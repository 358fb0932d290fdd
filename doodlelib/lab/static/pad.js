// Paper and pen. A point's time is the browser's own for the event, and where the browser joined
// several movements of the pen into one event, each of them is a point.

import { ARROWS, element, keepKeys, line, save, shape } from "./dom.js";

const LIVE = 150; // ms between reports to the kernel while the pen is down
const STEP = 5; // px of an arrow key
const LABEL =
  "Drawing pad. Arrow keys move the pen, space lowers and lifts it, control and z undo.";

const rounded = (value) => Math.round(value * 10) / 10;

function render({ model, el }) {
  const size = model.get("size");
  const box = { viewBox: `0 0 ${size} ${size}`, width: size, tabindex: 0 };
  const paper = shape(el, "svg", { class: "doodle-paper", ...box, role: "application" });
  paper.setAttribute("aria-label", LABEL);
  const ink = shape(paper, "path", { class: "doodle-ink" });
  const cursor = shape(paper, "circle", { class: "doodle-no-pen", r: 4 });
  const undo = element("button", { type: "button" }, "Undo");
  const clear = element("button", { type: "button" }, "Clear");
  const verdict = element("p", { role: "status" });
  const guesses = element("ol", { "aria-label": "What it looks like" });
  el.append(
    element("div", {}, element("div", { class: "doodle-row" }, undo, clear), verdict, guesses),
  );
  el.classList.add("doodles", "doodle-pad");

  keepKeys(el);

  let strokes = structuredClone(model.get("strokes")); // [x, y, t], px and ms
  let pen = null; // the pointer that draws, or "keys"
  let origin = 0; // when t = 0 was, on the clock of events
  let at = [size / 2, size / 2]; // where the arrow keys have moved the pen
  let reported = 0; // when the kernel was last told

  const end = () => strokes.at(-1)?.[2].at(-1) ?? 0;

  function trace() {
    ink.setAttribute("d", strokes.map(([x, y]) => line(x.map((px, i) => [px, y[i]]))).join(""));
    undo.disabled = clear.disabled = strokes.length === 0;
  }

  function report() {
    reported = performance.now();
    save(model, "strokes", structuredClone(strokes));
  }

  function lower(who, [x, y], when) {
    if (strokes.length === 0) origin = when;
    pen = who;
    strokes.push([[rounded(x)], [rounded(y)], [Math.max(end(), rounded(when - origin))]]);
    trace();
  }

  function move([x, y], when) {
    const [xs, ys, ts] = strokes.at(-1);
    xs.push(rounded(x));
    ys.push(rounded(y));
    ts.push(Math.max(end(), rounded(when - origin)));
  }

  function lift() {
    pen = null;
    trace();
    report();
  }

  function place(event) {
    const { left, top, width } = paper.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top].map((px) => (px * size) / width);
  }

  function takeBack(count) {
    strokes = strokes.slice(0, -count);
    lift();
  }

  paper.addEventListener("pointerdown", (event) => {
    if (pen !== null || !event.isPrimary || event.button !== 0) return;
    event.preventDefault();
    paper.focus({ preventScroll: true });
    paper.setPointerCapture(event.pointerId);
    cursor.setAttribute("class", "doodle-no-pen");
    lower(event.pointerId, place(event), event.timeStamp);
  });
  paper.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen) return;
    const joined = event.getCoalescedEvents?.() ?? [];
    for (const one of joined.length ? joined : [event]) move(place(one), one.timeStamp);
    trace();
    if (performance.now() - reported > LIVE) report();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    paper.addEventListener(name, (event) => event.pointerId === pen && lift());
  }
  paper.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    const isUndo = event.key === "z" && (event.ctrlKey || event.metaKey);
    if (!way && !isUndo && event.key !== " ") return;
    event.preventDefault();
    if (pen !== null && pen !== "keys") return;
    if (isUndo) takeBack(1);
    else if (way) {
      at = at.map((px, axis) => Math.max(0, Math.min(size, px + STEP * way[axis])));
      if (pen) move(at, event.timeStamp), trace();
    } else if (pen) lift();
    else lower("keys", at, event.timeStamp);
    cursor.setAttribute("class", pen ? "doodle-pen" : "doodle-hover");
    cursor.setAttribute("cx", at[0]);
    cursor.setAttribute("cy", at[1]);
  });
  undo.addEventListener("click", () => takeBack(1));
  clear.addEventListener("click", () => takeBack(strokes.length));

  model.on("change:strokes", () => {
    const now = model.get("strokes");
    if (pen !== null || JSON.stringify(now) === JSON.stringify(strokes)) return;
    strokes = structuredClone(now); // set by the kernel; its last point counts as drawn just now
    origin = performance.now() - end();
    trace();
  });
  function judge() {
    const found = model.get("guesses");
    const text = found.length ? `Looks like: ${found[0][0]}` : "";
    if (verdict.textContent !== text) verdict.textContent = text; // read out when it changes
    guesses.replaceChildren(
      ...found.map(([word, share]) => {
        const text = `${Math.round(share * 100)} %`;
        const bar = element("progress", { max: 1, value: share, "aria-label": word });
        return element("li", {}, element("span", {}, word), bar, element("span", {}, text));
      }),
    );
  }
  model.on("change:guesses", judge);
  origin = performance.now() - end();
  trace();
  judge();
}

export default { render };
