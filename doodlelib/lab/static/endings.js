// Endings of a drawing: they play side by side, each from where the drawing ends.

import { curved } from "./curve.js";
import { boxOf, endOf, upTo } from "./drawing.js";
import { element, line, shape } from "./dom.js";

const HOLD = 1500; // ms that finished endings stay before they start again

const outline = (strokes) => strokes.map(([x, y]) => line(x.map((px, i) => [px, y[i]]))).join("");

/** Path data of strokes as they are at `time`. */
export const inkAt = (strokes, time = Infinity) => outline(upTo(strokes, time));

/** Whether the person asked their system for less motion. */
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An element `el` for endings; `take(strokes, added)` is called with the one that is chosen. */
export function makeEndings(take) {
  const el = element("div", { class: "doodle-endings", role: "group", "aria-label": "Endings" });
  let shown = []; // [path, what it draws, when that begins in the drawing's time, when on the page]
  let frame = 0;
  let isSeen = false;

  function tick(now) {
    frame = requestAnimationFrame(tick);
    for (const one of shown) {
      if (now - one.since > one.length + HOLD) one.since = now;
      one.path.setAttribute("d", inkAt(one.seen, one.start + now - one.since));
    }
  }

  function run() {
    cancelAnimationFrame(frame);
    if (isSeen && shown.length > 0 && !isCalm()) frame = requestAnimationFrame(tick);
  }

  const sight = new IntersectionObserver(([{ isIntersecting }]) => {
    isSeen = isIntersecting;
    run();
  });
  sight.observe(el);

  return {
    el,
    get count() {
      return shown.length;
    },
    add(strokes, added) {
      const [start, seconds] = [endOf(strokes), (endOf(added) - endOf(strokes)) / 1000];
      const [left, top, width, height] = boxOf([...strokes, ...added]);
      const side = Math.max(width, height) * 1.16 || 1;
      const name = `Ending ${shown.length + 1}, takes ${seconds.toFixed(1)} seconds: take it`;
      const button = element("button", { type: "button", "aria-label": name, title: "Take it" });
      button.dataset.lmSuppressShortcuts = "true";
      const svg = shape(button, "svg", {
        viewBox: [left + (width - side) / 2, top + (height - side) / 2, side, side].join(" "),
        "aria-hidden": "true",
        style: `stroke-width: ${side / 80}`,
      });
      shape(svg, "path", { class: "doodle-ink", d: outline(strokes) });
      const seen = curved(added);
      const path = shape(svg, "path", { class: "doodle-fresh", d: outline(seen) });
      button.append(element("span", {}, `${seconds.toFixed(1)} s`));
      button.addEventListener("click", () => take(strokes, added));
      el.append(button);
      shown.push({ path, seen, start, length: seconds * 1000, since: performance.now() });
      run();
    },
    clear() {
      shown = [];
      el.replaceChildren();
    },
    stop() {
      cancelAnimationFrame(frame);
      sight.disconnect();
    },
  };
}
