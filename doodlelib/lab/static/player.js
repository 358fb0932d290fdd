// Drawings that play in the page. The kernel sends them once; all that moves, moves here.

import { curved } from "./curve.js";
import { element, keepKeys, keyHelp, line, listen, save, shape } from "./dom.js";
import { toGIF } from "./gif.js";
import { copy, download, toNdjson, toSheet } from "./save.js";

const FRESH = 300; // ms for which ink has the colour of fresh ink
const HOLD = 1000; // ms that finished drawings stay before they start again
const STEP = 100; // ms that an arrow key moves; ten times that with shift
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const STRIP = 11; // pictures in the filmstrip of a way, at most
const KEYS = {
  Space: "play, pause",
  "← →": "a tenth of a second back, on; with shift a second",
  "Home End": "to the start, to the end",
  "Enter": "on a doodle: choose it, for its speed and to keep it",
};
const FORMATS = { svg: "SVG", gif: "GIF", ndjson: "ndjson" };
const TYPES = { svg: "image/svg+xml", gif: "image/gif", ndjson: "application/x-ndjson" };
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
export function panel(drawing, title) {
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

/** The middle one of sorted values; of an even number the lower of the two in the middle. */
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)];

/** A small picture of the finished drawing. */
function still(drawing) {
  const { figure, paint } = panel(drawing, "");
  paint(Infinity);
  const svg = figure.querySelector("svg");
  svg.setAttribute("aria-hidden", true);
  return svg;
}

/** The pen's speed over the time of a drawing, and the function that marks a time there. */
function speedCurve() {
  const [width, height, left, foot] = [600, 90, 44, 18];
  const el = element("div", { class: "doodle-speed" });
  const svg = shape(el, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img" });
  const pauses = shape(svg, "path", { class: "doodle-pause" });
  shape(svg, "path", { class: "doodle-axis", d: `M${left} 0V${height - foot}H${width}` });
  const curve = shape(svg, "path", { class: "doodle-curve" });
  const now = shape(svg, "path", { class: "doodle-now" });
  const text = (attributes) => shape(svg, "text", attributes);
  const top = text({ x: left - 5, y: 11, "text-anchor": "end" });
  text({ x: left - 5, y: height - foot, "text-anchor": "end" }).textContent = "0";
  text({ x: left, y: height - 3 }).textContent = "0 s";
  const last = text({ x: width, y: height - 3, "text-anchor": "end" });
  const name = text({ x: (left + width) / 2, y: height - 3, "text-anchor": "middle" });
  let total = 1;
  const across = (time) => left + ((width - left) * Math.min(time, total)) / total;

  function show(drawing, title) {
    total = ends(drawing) || 1;
    const strokes = drawing.map(([x, y, t]) => {
      const steps = [];
      let [length, from] = [0, 0]; // of what was drawn since `from`; a few ms tell no speed
      for (let i = 1; i < t.length; i++) {
        length += Math.hypot(x[i] - x[i - 1], y[i] - y[i - 1]);
        if (t[i] - t[from] < 20 && i < t.length - 1) continue;
        const ms = t[i] - t[from];
        if (ms > 0) steps.push([(t[from] + t[i]) / 2, (1000 * length) / ms]);
        [length, from] = [0, i];
      }
      return steps;
    });
    const speeds = strokes.flat().map(([, speed]) => speed);
    const most = Math.max(1, ...speeds);
    const up = (speed) => (height - foot) * (1 - speed / most);
    const lines = strokes.filter((steps) => steps.length);
    curve.setAttribute(
      "d",
      lines.map((steps) => line(steps.map(([t, speed]) => [across(t), up(speed)]))).join(""),
    );
    const gaps = drawing.slice(1).map(([, , t], i) => [drawing[i][2].at(-1), t[0]]);
    pauses.setAttribute(
      "d",
      gaps.map(([a, b]) => `M${across(a)} 0H${across(b)}V${height - foot}H${across(a)}z`).join(""),
    );
    top.textContent = Math.round(most);
    last.textContent = `${seconds(total)} s`;
    name.textContent = `${title}: speed of the pen, px/s of a doodle 255 px wide; pauses shaded`;
    svg.setAttribute("aria-label", `${name.textContent}; ${Math.round(most)} px/s at most`);
  }

  function mark(time) {
    now.setAttribute("d", `M${across(time)} 0V${height - foot}`);
  }
  return { el, show, mark };
}

function render({ model, el }) {
  const option = ([value, text]) => element("option", { value }, text);
  const labelled = (text, input) => {
    input.ariaLabel = text; // else the options would be part of its name
    return element("label", {}, `${text} `, input);
  };
  const stage = element("div", { class: "doodle-stage" });
  const play = element("button", { type: "button", class: "doodle-play" });
  const scrub = element("input", { type: "range", min: 0, step: 1, "aria-label": "Time" });
  const clock = element("span", { class: "doodle-clock" });
  const speed = element("select", {}, ...SPEEDS.map((s) => option([s, `${s}×`])));
  const pace = element("select", {}, ...Object.entries(PACES).map(option));
  const loop = element("input", { type: "checkbox" });
  const showsCurve = element("input", { type: "checkbox" });
  const way = element("input", { type: "range", min: 0, max: 1, class: "doodle-way" });
  const wayName = element("span");
  const wayLabel = element("label", { class: "doodle-row" }, wayName, way);
  const strip = element("div", { class: "doodle-strip", role: "group", "aria-label": "Filmstrip" });
  const which = element("select");
  const format = element("select", {}, ...Object.entries(FORMATS).map(option));
  const keep = element("button", { type: "button" }, "Download");
  const copied = element("button", { type: "button" }, "Copy");
  const told = element("span", { role: "status" });
  const curve = speedCurve();
  el.classList.add("doodles", "doodle-player");
  el.append(
    wayLabel,
    strip,
    stage,
    element("div", { class: "doodle-row" }, play, scrub, clock),
    curve.el,
    element(
      "div",
      { class: "doodle-row" },
      labelled("Speed", speed),
      labelled("Pace", pace),
      labelled("Loop", loop),
      labelled("Speed curve", showsCurve),
    ),
    element(
      "div",
      { class: "doodle-row" },
      labelled("Keep", which),
      labelled("as", format),
      keep,
      copied,
      told,
    ),
    keyHelp(KEYS),
  );
  format.ariaLabel = "Format";
  Object.assign(el, { tabIndex: 0, role: "group", ariaLabel: "Player" });

  let shown = []; // what is on the stage: { index, drawing, figure, paint, end, began }
  let length = 0; // ms of a loop: the median, so that one slow drawing does not stop the others
  let chosen = -1; // index of a drawing, or -1
  let time = 0; // ms since the start, through all loops; infinite: all drawings are finished
  let began = 0; // when this loop did
  let frame = 0; // of the browser, while it plays
  let before = 0; // when the frame before was
  let isPlaying = false;
  let isSeen = false;

  const isWay = () => model.get("along") !== "";
  const current = () => Math.round(model.get("share") * (model.get("strokes").length - 1));
  const titleOf = (i) => model.get("titles")[i] || `doodle ${i + 1}`;

  /** The drawings as they play: at the pace that is set, if it is one. */
  function panels(indices) {
    const drawings = model.get("strokes");
    const titles = model.get("titles");
    return indices.flatMap((index) => {
      const named = (text) => [titles[index], text].filter(Boolean).join(", ");
      const drawing = model.get("smooth") ? curved(drawings[index]) : drawings[index];
      const human = [drawing, named(pace.value === "both" ? PACES.human : "")];
      const constant = [evenly(drawing), named(PACES.constant)];
      const made = { human: [human], constant: [constant], both: [human, constant] }[pace.value];
      return made.map(([drawing, title]) => {
        return { index, drawing, title, end: ends(drawing), began: 0, ...panel(drawing, title) };
      });
    });
  }

  function show() {
    const drawings = model.get("strokes");
    wayLabel.hidden = strip.hidden = !isWay();
    wayName.textContent = model.get("along");
    way.step = 1 / Math.max(1, drawings.length - 1);
    way.value = model.get("share");
    shown = panels(isWay() ? [current()] : drawings.map((_, i) => i));
    measure();
    stage.style.setProperty("--columns", Math.min(shown.length, model.get("columns")));
    stage.style.setProperty("--size", `${model.get("size")}px`);
    stage.replaceChildren(...shown.map(({ figure }) => figure));
    for (const { figure, index } of isWay() ? [] : shown) {
      Object.assign(figure, { tabIndex: 0, title: "Choose this one" });
      figure.addEventListener("click", () => choose(index === chosen ? -1 : index));
    }
    for (const thumb of strip.children) {
      thumb.setAttribute("aria-current", Number(thumb.dataset.index) === current());
    }
    choose(chosen < drawings.length ? chosen : -1);
    keepKeys(el);
  }

  /** The pictures along a way, and the list of what can be kept; anew for other drawings. */
  function list() {
    const drawings = model.get("strokes");
    const count = isWay() ? Math.min(STRIP, drawings.length) : 0;
    const indices = Array.from({ length: count }, (_, i) =>
      Math.round((i * (drawings.length - 1)) / Math.max(1, count - 1)),
    );
    const thumbs = indices.map((index) => {
      const name = `Step ${index + 1} of ${drawings.length}`;
      const thumb = element("button", { type: "button", "aria-label": name, title: name });
      thumb.dataset.index = index;
      thumb.append(still(drawings[index]));
      thumb.addEventListener("click", () => {
        save(model, "share", index / Math.max(1, drawings.length - 1));
      });
      return thumb;
    });
    strip.replaceChildren(...thumbs);
    const one = isWay() ? [["", "this one"]] : drawings.map((_, i) => [i, `${i + 1}: ${titleOf(i)}`]);
    const all = drawings.length > 1 ? [["all", `all ${drawings.length}`]] : [];
    which.replaceChildren(...[...all, ...one].map(option));
    which.ariaLabel = "Which";
  }

  function measure() {
    const all = shown.map(({ end }) => end);
    length = Math.max(1, Math.ceil(loop.checked ? median(all) : Math.max(...all)));
    scrub.max = length;
  }

  function choose(index) {
    chosen = index;
    for (const one of shown) one.figure.classList.toggle("doodle-picked", one.index === chosen);
    if (!isWay()) which.value = chosen < 0 && which.options[0]?.value === "all" ? "all" : Math.max(0, chosen);
    const one = shown.find((one) => one.index === chosen) ?? shown[0];
    const name = isWay() ? `step ${one.index + 1}` : titleOf(one.index);
    curve.show(one.drawing, `${name}${pace.value === "constant" ? ", constant speed" : ""}`);
    paint();
  }

  /** Where the pen of one drawing is, in its own time. */
  const own = (one) => Math.min(one.end, time - one.began);
  const position = () => Math.min(length, time - began);

  function paint() {
    for (const one of shown) one.paint(own(one));
    curve.mark(own(shown.find((one) => one.index === chosen) ?? shown[0]));
    scrub.value = position();
    const text = `${seconds(position())} of ${seconds(length)} s`;
    if (clock.textContent !== text) clock.textContent = text;
  }

  /** Each drawing starts again by itself, a moment after it is finished; so does the clock. */
  function restart() {
    const hold = HOLD * Number(speed.value);
    for (const one of shown) if (time > one.began + one.end + hold) one.began = time;
    if (time > began + length + hold) began = time;
  }

  function tick(now) {
    frame = requestAnimationFrame(tick);
    time += before ? (now - before) * Number(speed.value) : 0;
    before = now;
    if (loop.checked) restart();
    else if (shown.every((one) => time >= one.began + one.end)) set(false);
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

  /** All drawings at one moment; at the end of the clock, all are finished. */
  function go(to) {
    time = to >= length ? Infinity : Math.max(0, to);
    began = 0;
    for (const one of shown) one.began = 0;
    paint();
  }

  function toggle() {
    const isOver = shown.every((one) => own(one) >= one.end);
    if (!isPlaying && isOver) go(0);
    set(!isPlaying);
  }

  function seek(to) {
    set(false);
    go(to);
    scrub.setAttribute("aria-valuetext", clock.textContent);
  }

  function start() {
    const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const moves = model.get("autoplay") && !isCalm;
    list();
    show();
    go(moves ? 0 : Infinity);
    set(moves);
  }

  function reshow() {
    const was = time === Infinity ? Infinity : position();
    show();
    go(was);
  }

  function follow() {
    speed.value = model.get("speed");
    pace.value = model.get("pace");
    loop.checked = model.get("loop");
    showsCurve.checked = model.get("curve");
    curve.el.hidden = !showsCurve.checked;
    if (shown.length) measure(), paint();
  }

  /** Indices of the drawings to be kept, and a name for their file. */
  function kept() {
    const drawings = model.get("strokes");
    const indices = which.value === "all" ? drawings.map((_, i) => i) : [isWay() ? current() : Number(which.value)];
    const words = indices.map((i) => model.get("word") || model.get("titles")[i]);
    const word = new Set(words).size === 1 && words[0] ? `_${words[0]}` : "";
    const name = `${indices.length > 1 ? "doodles" : "doodle"}${word}`;
    return { indices, words, name: name.replace(/[^\p{L}\p{N}_-]+/gu, "_") };
  }

  async function content({ indices, words }) {
    if (format.value === "ndjson") return toNdjson(indices.map((i) => model.get("strokes")[i]), words);
    const made = panels(indices);
    const columns = Math.min(made.length, model.get("columns"));
    if (format.value === "svg") {
      return toSheet(made.map((one) => one.drawing), { titles: made.map((one) => one.title), columns });
    }
    const total = Math.max(...made.map((one) => one.end));
    return toGIF(made, { total, columns, size: made.length > 1 ? 140 : 255 });
  }

  async function keeping(button, act) {
    button.disabled = true;
    told.textContent = "…";
    try {
      told.textContent = await act(kept());
    } catch (error) {
      told.textContent = `That failed: ${error.message}`;
    }
    offer();
  }

  function offer() {
    keep.disabled = false;
    copied.disabled = format.value === "gif";
    copied.title = copied.disabled ? "a GIF cannot be copied: download it" : "as text";
  }

  keep.addEventListener("click", () =>
    keeping(keep, async (what) => {
      const name = `${what.name}.${format.value}`;
      download(name, TYPES[format.value], await content(what));
      return `${name} is downloaded`;
    }),
  );
  copied.addEventListener("click", () =>
    keeping(copied, async (what) => {
      await copy(await content(what));
      return `${what.indices.length > 1 ? `${what.indices.length} doodles are` : "The doodle is"} on the clipboard`;
    }),
  );
  format.addEventListener("change", () => (offer(), (told.textContent = "")));
  which.addEventListener("change", () => {
    if (!isWay()) choose(which.value === "all" ? -1 : Number(which.value));
  });
  play.addEventListener("click", toggle);
  scrub.addEventListener("input", () => seek(Number(scrub.value)));
  speed.addEventListener("change", () => save(model, "speed", Number(speed.value)));
  pace.addEventListener("change", () => save(model, "pace", pace.value));
  loop.addEventListener("change", () => save(model, "loop", loop.checked));
  showsCurve.addEventListener("change", () => save(model, "curve", showsCurve.checked));
  way.addEventListener("input", () => model.set("share", Number(way.value)));
  way.addEventListener("change", () => model.save_changes());
  el.addEventListener("keydown", (event) => {
    const picked = event.key === "Enter" && shown.find((one) => one.figure === event.target);
    if (picked) choose(picked.index === chosen ? -1 : picked.index);
    if (![el, scrub, play].includes(event.target) && event.target.tagName !== "FIGURE") return;
    const step = event.shiftKey ? 10 * STEP : STEP;
    const steps = { ArrowLeft: -step, ArrowRight: step, Home: -Infinity, End: Infinity };
    if (event.key in steps) seek(position() + steps[event.key]);
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
  offer();
  start();
  listen(model, "speed loop curve", follow);
  listen(model, "pace", () => (follow(), reshow()));
  listen(model, "share smooth", reshow);
  let isDue = false; // other drawings and their titles come together, but are told one by one
  listen(model, "strokes titles along columns", () => {
    if (!isDue) queueMicrotask(() => ((isDue = false), start()));
    isDue = true;
  });
  return () => {
    cancelAnimationFrame(frame);
    sight.disconnect();
  };
}

export default { render };
