// The page: the pad and the player of the lab, with the models in a worker instead of a kernel.

import { curved } from "./curve.js";
import { element, shape } from "./dom.js";
import { boxOf, endOf } from "./drawing.js";
import { inkAt, isCalm } from "./endings.js";
import pad from "./pad.js";
import player from "./player.js";
import { copy as copyText } from "./save.js";
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
    goesOn: true, // by itself, when the pen is lifted
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
    const isCopied = await copyText(location.href).then(() => true, () => false);
    said.textContent = `The address of this page now holds your drawing${isCopied ? ", and is copied" : ""}.`;
  });
}

/** Labelled input elements. */
const slider = (value, max, step) => element("input", { type: "range", min: 0, max, step, value });
const wordField = (more) => element("input", { type: "text", list: "words", ...more });
const labelled = (text, input) => element("label", {}, element("span", {}, text), input);

/** Index of the word that is typed in a field, or -1, which is said. */
function typed(field, said) {
  const index = words.indexOf(field.value.trim());
  field.setAttribute("aria-invalid", index < 0);
  said.textContent = index < 0 ? `It cannot draw “${field.value}”: take one of the ${words.length} words of the list.` : "";
  return index;
}

function wall(section) {
  const [shapeHeat, timeHeat] = [slider(SHAPE, 1, 0.05), slider(1, 1.5, 0.05)];
  const another = wordField({ placeholder: "another word" });
  const said = element("p", { role: "alert", class: "doodle-alarm" });
  const tiles = element("div", { class: "page-wall" });
  const large = element("div", { class: "page-large" });
  const shown = makeModel({ ...PLAYER, pace: "both" });
  let hasPlayer = false;
  let isSeen = false;
  let turn = 0; // of drawing all anew

  /** Play a doodle of the wall in large, below the row of its tile. */
  function show(button, word, drawing) {
    shown.set("titles", [word]);
    shown.set("strokes", [drawing]);
    button.after(large);
    if (!hasPlayer) player.render({ model: shown, el: large });
    hasPlayer = true;
    for (const one of tiles.children) one.classList.toggle("page-open", one === button);
    large.scrollIntoView({ block: "nearest", behavior: isCalm() ? "auto" : "smooth" });
  }

  function tile(word) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("aria-hidden", "true");
    const path = shape(svg, "path", { class: "doodle-ink" });
    const button = element("button", { type: "button", "aria-label": `Another ${word}`, "aria-busy": "true" }, svg, element("span", {}, word));
    let [drawing, since, latest] = [null, 0, 0];

    async function renew(isTapped) {
      const mine = ++latest;
      button.ariaBusy = "true";
      const options = { shape: Number(shapeHeat.value), time: Number(timeHeat.value) };
      const [made] = await doodles(word, options);
      if (mine !== latest) return;
      button.ariaBusy = "false";
      drawing = curved(made);
      since = performance.now();
      const [left, top, width, height] = boxOf(drawing);
      const side = Math.max(width, height) * 1.2 || 1;
      const box = [left + (width - side) / 2, top + (height - side) / 2, side, side];
      svg.setAttribute("viewBox", box.join(" "));
      svg.style.strokeWidth = side / 60;
      if (isTapped) show(button, word, made);
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
    element("div", { class: "page-fields" }, labelled("Shape: usual to wild", shapeHeat), labelled("Time: steady to uneven", timeHeat), labelled("One more", another)),
    said,
    tiles,
  );

  async function renewAll() {
    const mine = ++turn;
    for (const one of all) if (mine === turn) await one.renew(false);
  }
  for (const heat of [shapeHeat, timeHeat]) heat.addEventListener("change", renewAll);
  another.addEventListener("change", async () => {
    const index = typed(another, said);
    if (index < 0) return;
    another.value = "";
    const made = tile(words[index]);
    all.push(made);
    await made.renew(true);
  });
  const tick = (now) => {
    if (isSeen) requestAnimationFrame(tick);
    for (const one of all) one.paint(now);
  };
  new IntersectionObserver(([{ isIntersecting }]) => {
    if (isIntersecting && !isSeen) requestAnimationFrame(tick);
    isSeen = isIntersecting;
  }).observe(tiles);
  return renewAll;
}

function morph(section) {
  const inputs = [0, 1].map((i) => wordField({ value: specs.shown[i] ?? specs.shown[0] }));
  const go = element("button", { type: "button" }, "Draw the way");
  const said = element("p", { role: "alert", class: "doodle-alarm" });
  const el = element("div");
  const model = makeModel({ ...PLAYER, columns: 1, size: 280, speed: 2 });
  let hasPlayer = false;

  async function draw() {
    const chosen = inputs.map((input) => typed(input, said));
    const wrong = chosen.indexOf(-1);
    if (wrong >= 0) return void typed(inputs[wrong], said);
    go.disabled = true;
    const { drawings } = await ask({ kind: "way", words: chosen, steps: STEPS, latent: 0.1, temperature: 0.1, timeTemperature: 1 });
    go.disabled = false;
    model.set("along", chosen.map((index) => words[index]).join(" to "));
    model.set("titles", drawings.map(() => ""));
    model.set("share", 0);
    model.set("strokes", drawings);
    if (!hasPlayer) player.render({ model, el });
    hasPlayer = true;
  }
  go.addEventListener("click", draw);
  for (const input of inputs) {
    input.addEventListener("keydown", ({ key }) => key === "Enter" && draw());
  }
  section.append(element("div", { class: "page-fields" }, labelled("From", inputs[0]), labelled("to", inputs[1]), go), said, el);
  return draw;
}

const main = document.querySelector("main");
main.append(element("datalist", { id: "words" }, ...words.map((word) => new Option(word))));
function section(title, text) {
  const made = element("section", {}, element("h2", {}, title), element("p", {}, text));
  main.append(made);
  return made;
}
drawWithMe(section("Draw with me", "Draw, and lift the pen: the model says what it sees, and goes on from there, at human speed, until you touch the paper again."));
const fill = wall(section("Doodles", "New ones by the model, at the pace of a person. Tap one for another, and to see it beside constant speed."));
const way = morph(section("From one word to another", "Nine doodles on the way: move the slider, or choose one of the small ones."));
await ready;
await fill();
await way();
document.body.dataset.ready = "true";
