// The page: the pad and the player of the lab, with the models in a worker instead of a kernel.

import { curved } from "./curve.js";
import { element, shape } from "./dom.js";
import { boxOf, endOf } from "./drawing.js";
import { inkAt, isCalm } from "./endings.js";
import pad from "./pad.js";
import player from "./player.js";
import { simplify, toBox } from "./simplify.js";

const SHAPE = 0.4; // temperature
const PAUSE = 1500; // ms that a finished doodle of the wall stays
const STEPS = 9; // of a way between two words

const specs = JSON.parse(document.getElementById("specs").textContent);
const words = specs.sketcher.words;

/** What a widget's JavaScript expects of its kernel: values, their changes, and messages. */
function makeModel(values, { onSet = () => {}, onSend = () => {} } = {}) {
  const heard = new EventTarget();
  const changed = new Set();
  const tell = (name, detail) => heard.dispatchEvent(new CustomEvent(name, { detail }));
  const model = {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      changed.add(name);
      tell(`change:${name}`, []);
    },
    save_changes() {
      for (const name of changed) onSet(name, values[name], model);
      changed.clear();
    },
    on(names, act) {
      for (const name of names.split(" ")) heard.addEventListener(name, (event) => act(...event.detail));
    },
    send: (content) => onSend(content, (answer, buffers = []) => tell("msg:custom", [answer, buffers])),
  };
  return model;
}

/** The values of a player, but for those that are set. */
const PLAYER = {
  ...{ strokes: [], titles: [], columns: 2, size: 240, pace: "human", speed: 1, loop: true },
  ...{ smooth: true, curve: false, autoplay: true, along: "", share: 0, word: "" },
};

/** The worker; `ask(question)` gives its last answer, `onPart` is called for those before. */
function openModels() {
  const parts = ["sketcher.js", "classifier.js", "worker.js"].map((name) => doodleSources[name]);
  // in a page from disk browsers refuse a worker that imports, so it gets one text
  const source = parts.join("").replace(/^import .*;$|^export \{.*;$|^export /gm, "");
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  worker.onerror = ({ message }) => {
    throw new Error(`the models' thread: ${message}`);
  };
  const open = new Map();
  worker.onmessage = ({ data }) => {
    const { done, onPart } = open.get(data.id);
    if (data.isDone === false) return onPart(data);
    open.delete(data.id);
    done(data);
  };
  const ask = (question, onPart = () => {}) =>
    new Promise((done) => {
      const id = Math.random();
      open.set(id, { done, onPart });
      worker.postMessage({ id, ...question });
    });
  const text = atob(document.getElementById("weights").textContent);
  const bytes = Uint8Array.from(text, (one) => one.charCodeAt(0)).buffer;
  document.getElementById("weights").remove();
  return { ask, ready: ask({ kind: "open", specs, bytes }) };
}

const { ask, ready } = openModels();

/** New doodles: each with the word and the latent that it came from. */
async function doodles(asked, { shape: temperature = SHAPE, time = 1, count = 1, ...more } = {}) {
  const options = { count, latent: temperature, temperature, timeTemperature: time, ...more };
  const { drawings } = await ask({ kind: "draw", word: words.indexOf(asked), ...options });
  return drawings.map((drawing) => drawing.filter(([x]) => x.length > 0));
}

/** Endings of strokes, each the whole drawing in the 255 box. */
async function endings(strokes, word, count) {
  const { simplification, hidesZ } = specs.sketcher;
  const known = words.includes(word) ? words.indexOf(word) : words.length;
  const [prefix, whole] = [simplify(strokes, simplification), toBox(strokes)];
  const latent = hidesZ || known === words.length ? null : SHAPE;
  const options = { count, latent, temperature: SHAPE, timeTemperature: 1, prefix };
  const { drawings } = await ask({ kind: "draw", word: known, ...options });
  return drawings.map(([first, ...others]) => {
    const last = whole.at(-1).map((row, axis) => [...row, ...first[axis].slice(1)]);
    return [...whole.slice(0, -1), last, ...others];
  });
}

/** Strokes as a part of an address, and back. */
const toLink = (strokes) => {
  const rounded = strokes.map((stroke) => stroke.map((row) => row.map(Math.round)));
  return btoa(JSON.stringify(rounded)).replaceAll("+", "-").replaceAll("/", "_");
};
function fromLink(text) {
  try {
    const strokes = JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/")));
    const isRow = (row) => Array.isArray(row) && row.length > 0 && row.every(Number.isFinite);
    const isStroke = (stroke) => stroke.length === 3 && stroke.every(isRow);
    return strokes.every(isStroke) ? strokes : [];
  } catch {
    return []; // not a link of ours
  }
}

function drawWithMe(section) {
  const linked = new URLSearchParams(location.hash.slice(1)).get("drawing");
  const values = {
    size: 320,
    words,
    named: specs.classifier.words,
    name: "page",
    strokes: linked ? fromLink(linked) : [],
    guesses: [],
    acts: ["complete"],
  };
  let latest = 0; // guess
  const model = makeModel(values, {
    async onSet(name, strokes, own) {
      const mine = ++latest;
      if (name !== "strokes") return;
      const found = strokes.length ? await ask({ kind: "guess", drawing: strokes }) : { guesses: [] };
      if (mine === latest) own.set("guesses", found.guesses);
    },
    async onSend({ id, act, strokes, word, n }, answer) {
      if (act === "complete") answer({ id, endings: await endings(strokes, word, n) });
    },
  });
  const el = element("div");
  const copy = element("button", { type: "button" }, "Copy a link to this drawing");
  const said = element("span", { role: "status" });
  section.append(el, element("p", { class: "doodle-row" }, copy, said));
  pad.render({ model, el });
  copy.addEventListener("click", async () => {
    const strokes = model.get("strokes");
    if (strokes.length === 0) return (said.textContent = "Draw something first.");
    location.hash = `drawing=${toLink(strokes)}`;
    await navigator.clipboard?.writeText(location.href).catch(() => {});
    said.textContent = "The address of this page now holds your drawing, and is copied.";
  });
}

/** Labelled input elements. */
const slider = (value, max, step) => element("input", { type: "range", min: 0, max, step, value });
const labelled = (text, input) => element("label", { class: "doodle-row" }, text, input);

function wall(section) {
  const [shapeHeat, timeHeat] = [slider(SHAPE, 1, 0.05), slider(1, 1.5, 0.05)];
  const another = element("input", { type: "text", list: "words", placeholder: "another word" });
  const tiles = element("div", { class: "page-wall" });
  const large = element("div");
  const shown = makeModel({ ...PLAYER, pace: "both" });
  let hasPlayer = false;

  function show(word, drawing) {
    shown.set("titles", [word]);
    shown.set("strokes", [drawing]);
    if (!hasPlayer) player.render({ model: shown, el: large });
    hasPlayer = true;
  }

  function tile(word) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    const path = shape(svg, "path", { class: "doodle-ink" });
    const button = element("button", { type: "button", "aria-label": `Another ${word}` }, svg, element("span", {}, word));
    let [drawing, since, isAsked] = [null, 0, false];

    async function renew(isTapped) {
      if (isAsked) return;
      isAsked = true;
      const options = { shape: Number(shapeHeat.value), time: Number(timeHeat.value) };
      const [made] = await doodles(word, options);
      drawing = curved(made);
      [since, isAsked] = [performance.now(), false];
      const [left, top, width, height] = boxOf(drawing);
      const side = Math.max(width, height) * 1.2 || 1;
      const box = [left + (width - side) / 2, top + (height - side) / 2, side, side];
      svg.setAttribute("viewBox", box.join(" "));
      svg.style.strokeWidth = side / 60;
      if (isTapped) show(word, made);
    }

    function paint(now) {
      if (drawing === null) return;
      const end = endOf(drawing);
      if (now - since > end + PAUSE && !isCalm()) since = now;
      path.setAttribute("d", inkAt(drawing, isCalm() ? end : now - since));
    }
    button.addEventListener("click", () => renew(true));
    tiles.append(button);
    return { renew, paint };
  }

  const all = specs.shown.map(tile);
  section.append(
    element("div", { class: "doodle-row" }, labelled("Shape: usual to wild", shapeHeat), labelled("Time: steady to uneven", timeHeat), labelled("Draw ", another)),
    tiles,
    large,
  );
  for (const heat of [shapeHeat, timeHeat]) {
    heat.addEventListener("change", async () => {
      for (const one of all) await one.renew(false);
    });
  }
  another.addEventListener("change", async () => {
    if (!words.includes(another.value)) return;
    const made = tile(another.value);
    all.push(made);
    await made.renew(true);
  });
  const tick = (now) => {
    requestAnimationFrame(tick);
    for (const one of all) one.paint(now);
  };
  requestAnimationFrame(tick);
  return async () => {
    for (const one of all) await one.renew(false);
  };
}

function morph(section) {
  const inputs = [specs.shown[0], specs.shown[1]].map((value) =>
    element("input", { type: "text", list: "words", value }),
  );
  const go = element("button", { type: "button" }, "Draw the way");
  const el = element("div");
  const model = makeModel({ ...PLAYER, columns: 1, size: 280, speed: 2 });
  let hasPlayer = false;

  async function draw() {
    const chosen = inputs.map((input) => words.indexOf(input.value));
    if (chosen.includes(-1)) return;
    go.disabled = true;
    const { drawings } = await ask({ kind: "way", words: chosen, steps: STEPS, latent: 0.1, temperature: 0.1, timeTemperature: 1 });
    go.disabled = false;
    model.set("along", `${inputs[0].value} to ${inputs[1].value}`);
    model.set("titles", drawings.map(() => ""));
    model.set("share", 0);
    model.set("strokes", drawings);
    if (!hasPlayer) player.render({ model, el });
    hasPlayer = true;
  }
  go.addEventListener("click", draw);
  section.append(element("div", { class: "doodle-row" }, labelled("From", inputs[0]), labelled("to", inputs[1]), go), el);
  return draw;
}

const main = document.querySelector("main");
main.append(element("datalist", { id: "words" }, ...words.map((word) => new Option(word))));
function section(title, text) {
  const made = element("section", {}, element("h2", {}, title), element("p", {}, text));
  main.append(made);
  return made;
}
drawWithMe(section("Draw with me", "Draw, and stop: the model says what it sees, and can go on from there, at human speed."));
const fill = wall(section("Doodles", "New ones by the model, at the pace of a person. Tap one for another."));
const way = morph(section("From one word to another", "Nine doodles between two words."));
await ready;
await fill();
await way();
document.body.dataset.ready = "true";
