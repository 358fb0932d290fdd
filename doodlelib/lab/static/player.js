// Drawings that play in the page. The kernel sends them once; all that moves, moves here.

import { element, keepKeys, line, save, shape } from "./dom.js";

const FRESH = 300; // ms for which ink has the colour of fresh ink
const HOLD = 1000; // ms that finished drawings stay before they start again
const STEP = 100; // ms that an arrow key moves; ten times that with shift
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const PACES = { human: "human time", constant: "constant speed", both: "both side by side" };

const ends = (drawing) => drawing.at(-1)[2].at(-1);
const seconds = (ms) => (ms / 1000).toFixed(1);

/** Where the pen is at `time`, between the points around it. */
function place([x, y, t], time) {
  const after = t.findIndex((at) => at >= time);
  if (after < 0) return [x.at(-1), y.at(-1)];
  if (after === 0) return [x[0], y[0]];
  const share = (time - t[after - 1]) / (t[after] - t[after - 1]);
  return [x, y].map((values) => values[after - 1] + share * (values[after] - values[after - 1]));
}

/** Path data of what was drawn after `from` and up to `to`. */
function inked(drawing, from, to) {
  let data = "";
  for (const stroke of drawing) {
    const [x, y, t] = stroke;
    if (t[0] > to || t.at(-1) < from) continue;
    const points = t[0] < from ? [place(stroke, from)] : [];
    for (let i = 0; i < t.length && t[i] <= to; i++) if (t[i] >= from) points.push([x[i], y[i]]);
    if (t.at(-1) > to) points.push(place(stroke, to));
    data += line(points);
  }
  return data;
}

/** The same strokes with the pen at one speed, lifted or not, in the same total time. */
function evenly(drawing) {
  let length = 0;
  let last = [drawing[0][0][0], drawing[0][1][0]];
  const lengths = drawing.map(([x, y]) =>
    x.map((_, i) => {
      length += Math.hypot(x[i] - last[0], y[i] - last[1]);
      last = [x[i], y[i]];
      return length;
    }),
  );
  const pace = ends(drawing) / (length || 1);
  return drawing.map(([x, y], k) => [x, y, lengths[k].map((l) => l * pace)]);
}

/** A figure of one drawing, and the function that shows it at a time. */
function panel(drawing, title) {
  const all = [0, 1, 2].map((row) => drawing.flatMap((stroke) => stroke[row]));
  const [left, top] = all.map((values) => Math.min(...values));
  const [width, height] = [Math.max(...all[0]) - left, Math.max(...all[1]) - top];
  const side = Math.max(width, height) || 1;
  const margin = side * 0.08;
  const corner = [left + (width - side) / 2 - margin, top + (height - side) / 2 - margin];
  const figure = element("figure");
  const svg = shape(figure, "svg", {
    viewBox: [...corner, side + 2 * margin, side + 2 * margin].join(" "),
    role: "img",
    "aria-label": `${title || "doodle"}, takes ${seconds(ends(drawing))} seconds`,
    style: `stroke-width: ${side / 80}`,
  });
  figure.append(element("figcaption", {}, title));
  shape(svg, "path", { class: "doodle-ghost", d: inked(drawing, 0, Infinity) });
  const ink = shape(svg, "path", { class: "doodle-ink" });
  const fresh = shape(svg, "path", { class: "doodle-fresh" });
  const pen = shape(svg, "circle", { r: side / 45 });

  function paint(time) {
    const isOver = time >= ends(drawing);
    ink.setAttribute("d", inked(drawing, 0, time));
    fresh.setAttribute("d", isOver ? "" : inked(drawing, Math.max(0, time - FRESH), time));
    const isDown = drawing.some(([, , t]) => t[0] <= time && time <= t.at(-1));
    pen.setAttribute("class", isOver ? "doodle-no-pen" : isDown ? "doodle-pen" : "doodle-hover");
    const [x, y] = place(all, time);
    pen.setAttribute("cx", x);
    pen.setAttribute("cy", y);
  }
  return { figure, paint };
}

function render({ model, el }) {
  const option = ([value, text]) => element("option", { value }, text);
  const labelled = (text, input) => {
    input.ariaLabel = text; // else the options would be part of its name
    return element("label", {}, `${text} `, input);
  };
  const stage = element("div", { class: "doodle-stage" });
  const play = element("button", { class: "doodle-play", type: "button" });
  const scrub = element("input", { type: "range", min: 0, step: "any", "aria-label": "Time" });
  const clock = element("span", { class: "doodle-clock" });
  const speed = element("select", {}, ...SPEEDS.map((s) => option([s, `${s}×`])));
  const pace = element("select", {}, ...Object.entries(PACES).map(option));
  const loop = element("input", { type: "checkbox" });
  const way = element("input", { type: "range", min: 0, max: 1, class: "doodle-way" });
  const wayName = element("span");
  const wayLabel = element("label", { class: "doodle-row" }, wayName, way);
  el.classList.add("doodles", "doodle-player");
  el.append(
    wayLabel,
    stage,
    element("div", { class: "doodle-row" }, play, scrub, clock),
    element(
      "div",
      { class: "doodle-row" },
      labelled("Speed", speed),
      labelled("Pace", pace),
      labelled("Loop", loop),
    ),
  );
  Object.assign(el, { tabIndex: 0, role: "group", ariaLabel: "Player" });

  keepKeys(el);

  let paints = [];
  let total = 0; // ms of the longest drawing
  let time = 0;
  let frame = 0; // of the browser, while it plays
  let before = 0; // when the frame before was
  let isPlaying = false;
  let isSeen = false;

  function show() {
    const drawings = model.get("strokes");
    const titles = model.get("titles");
    const isWay = model.get("along") !== "";
    wayLabel.hidden = !isWay;
    wayName.textContent = model.get("along");
    way.step = 1 / Math.max(1, drawings.length - 1);
    way.value = model.get("share");
    const one = Math.round(model.get("share") * (drawings.length - 1));
    const shown = isWay ? [one] : drawings.map((_, i) => i);
    const panels = shown.flatMap((i) => {
      const named = (text) => [titles[i], text].filter(Boolean).join(", ");
      const human = () => panel(drawings[i], named(pace.value === "both" ? PACES.human : ""));
      const constant = () => panel(evenly(drawings[i]), named(PACES.constant));
      return { human: [human], constant: [constant], both: [human, constant] }[pace.value];
    }).map((make) => make());
    total = Math.max(1, ...shown.map((i) => ends(drawings[i])));
    scrub.max = total;
    stage.style.setProperty("--columns", Math.min(panels.length, model.get("columns")));
    stage.style.setProperty("--size", `${model.get("size")}px`);
    stage.replaceChildren(...panels.map(({ figure }) => figure));
    paints = panels.map(({ paint }) => paint);
  }

  function paint() {
    const now = Math.min(time, total);
    for (const one of paints) one(now);
    scrub.value = now;
    const text = `${seconds(now)} of ${seconds(total)} s`;
    if (clock.textContent !== text) clock.textContent = text;
  }

  function tick(now) {
    frame = requestAnimationFrame(tick);
    time += before ? (now - before) * Number(speed.value) : 0;
    before = now;
    if (time >= total && !loop.checked) set(false);
    else if (time >= total + HOLD * Number(speed.value)) time = 0;
    paint();
  }

  function set(playing) {
    isPlaying = playing;
    play.textContent = playing ? "Pause" : "Play";
    cancelAnimationFrame(frame);
    before = 0;
    if (playing && isSeen) frame = requestAnimationFrame(tick);
    scrub.setAttribute("aria-valuetext", clock.textContent);
  }

  function toggle() {
    if (!isPlaying && time >= total) time = 0;
    set(!isPlaying);
  }

  function seek(to) {
    time = Math.max(0, Math.min(total, to));
    set(false);
    paint();
    scrub.setAttribute("aria-valuetext", clock.textContent);
  }

  function start() {
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const moves = model.get("autoplay") && !isCalm;
    show();
    time = moves ? 0 : total;
    paint();
    set(moves);
  }

  function reshow() {
    const wasOver = time >= total;
    show();
    if (wasOver || time > total) time = total;
    paint();
  }

  function follow() {
    speed.value = model.get("speed");
    pace.value = model.get("pace");
    loop.checked = model.get("loop");
  }

  play.addEventListener("click", toggle);
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  speed.addEventListener("change", () => save(model, "speed", Number(speed.value)));
  pace.addEventListener("change", () => save(model, "pace", pace.value));
  loop.addEventListener("change", () => save(model, "loop", loop.checked));
  way.addEventListener("input", () => model.set("share", Number(way.value)));
  way.addEventListener("change", () => model.save_changes());
  el.addEventListener("keydown", (event) => {
    if (event.target !== el && event.target !== scrub && event.target !== play) return;
    const step = event.shiftKey ? 10 * STEP : STEP;
    const steps = { ArrowLeft: -step, ArrowRight: step, Home: -total, End: total };
    if (event.key in steps) seek(time + steps[event.key]);
    else if (event.key === " " && event.target !== play) toggle();
    else return;
    event.preventDefault();
  });
  const sight = new IntersectionObserver(([{ isIntersecting }]) => {
    isSeen = isIntersecting;
    set(isPlaying);
  });
  sight.observe(el);

  follow();
  start();
  model.on("change:speed change:loop", follow);
  model.on("change:pace", () => (follow(), reshow()));
  model.on("change:share", reshow);
  model.on("change:strokes change:titles", start);
  return () => {
    cancelAnimationFrame(frame);
    sight.disconnect();
  };
}

export default { render };
