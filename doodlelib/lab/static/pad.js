// The pad: paper and pen, what the models make of a drawing, and its files. A point's time is the
// browser's own for the event, and where the browser joined several movements of the pen into one
// event, each of them is a point.
//
// The kernel is told of the strokes now and then, and sends guesses. What a button asks of it goes
// with the drawing as it is at that moment, and the answer comes with the question's `id`.

import { curved } from "./curve.js";
import { ARROWS, element, keepKeys, save, shape } from "./dom.js";
import { addition, endOf, makeDrawing, makeGame } from "./drawing.js";
import { inkAt, isCalm, makeEndings } from "./endings.js";
import { toGIF } from "./gif.js";
import { panel } from "./player.js";
import { download, toNdjson, toPNG, toSVG } from "./save.js";

const LIVE = 150; // ms between reports to the kernel while the pen is down
const STEP = 5; // px of an arrow key
const NEAR = 8; // px around a stroke in which the eraser takes it
const BATCHES = [1, 3, 6]; // endings that are asked for at a time: the first is there soon
const PATIENCE = 10_000; // ms without an answer until the page says so
const FEW = 40; // words that are listed without being asked for
const ACTS = ["complete", "reconstruct", "retime", "save"]; // that are asked of the kernel
const GIF_SIDE = 255; // px
const LABEL =
  "Drawing pad. Arrow keys move the pen, space lowers and lifts it or erases, " +
  "control and z undo, control and y redo.";
const GONE =
  "The kernel is gone, your drawing is not: run the cell again to have it named and completed.";
const SLOW = "No answer yet: the kernel is busy, or gone.";
const BACK = "Your drawing is here again; Clear takes it away.";
const GAME = { off: "Draw to a prompt", asked: "Got it!", running: "Done", over: "Next word" };

/** A drawing as a GIF that plays at its own pace. */
function gifOf(strokes) {
  const start = strokes[0][2][0];
  const drawing = strokes.map(([x, y, t]) => [x, y, t.map((at) => at - start)]);
  return toGIF([panel(drawing, "")], { total: endOf(drawing), columns: 1, size: GIF_SIDE });
}

const names = (words) => `${words.length} ${words.length === 1 ? "word" : "words"}`;

/** What the browser keeps of a pad by `key` for as long as the tab is open; null if it may not. */
function kept(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

function keep(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // no storage, or it is full: the drawing lives as long as the page
  }
}

function render({ model, el }) {
  const size = model.get("size");
  const words = model.get("words"); // that can be drawn
  const named = model.get("named"); // that can be recognised
  const acts = model.get("acts") ?? ACTS;
  const key = `doodle-pad ${location.pathname} ${model.get("name")}`;
  const before = kept(key);

  // what is on the page
  const button = (text, title = "", more = {}) =>
    element("button", { type: "button", title, ...more }, text);
  const row = (label, ...children) =>
    element("div", { class: "doodle-row", role: "group", "aria-label": label }, ...children);
  const box = { viewBox: `0 0 ${size} ${size}`, width: size, tabindex: 0, role: "application" };
  const sheet = element("div", { class: "doodle-sheet" });
  const prompt = element("p", { class: "doodle-prompt" });
  const clock = element("span", { role: "timer", class: "doodle-clock" });
  const asks = element("div", { class: "doodle-row" }, prompt, clock);
  sheet.append(asks);
  const paper = shape(sheet, "svg", { class: "doodle-paper", ...box, "aria-label": LABEL });
  const picture = shape(paper, "image", { width: size, height: size, class: "doodle-trace" });
  const ink = shape(paper, "path", { class: "doodle-ink" });
  const modelInk = shape(paper, "path", { class: "doodle-fresh" });
  const cursor = shape(paper, "circle", { class: "doodle-no-pen", r: 4 });
  const undo = button("Undo");
  const redo = button("Redo");
  const clear = button("Clear", "Can be undone");
  const eraser = button("Eraser", "Takes whole strokes", { "aria-pressed": "false" });
  const trace = button("Trace a picture…", "It lies under the drawing, and is no part of it");
  const file = element("input", { type: "file", accept: "image/*", hidden: "" });
  const verdict = element("p", { role: "status", class: "doodle-verdict" });
  const guesses = element("ol", { "aria-label": "What it looks like" });
  const known = element("details", {}, element("summary"), element("p"));
  const listId = `doodle-${Math.random()}`;
  const word = element("input", { type: "text", list: listId, "aria-label": "Word" });
  const isGuess = element("span", { class: "doodle-quiet" });
  const list = element("datalist", { id: listId }, ...words.map((one) => new Option(one)));
  const complete = button("Complete", "Ten ways to finish your drawing");
  const reconstruct = button("Reconstruct", "Your drawing, encoded and decoded again");
  const retime = button("Retime", "Your drawing at the model's pace");
  const auto = element("input", { type: "checkbox" });
  auto.checked = model.get("goesOn") ?? false;
  const take = button("Keep it", "What the model drew becomes a part of your drawing");
  const fileButton = (verb, kind, title) =>
    button(kind, title, { "aria-label": `${verb} ${kind}` });
  const types = {
    GIF: "image/gif",
    SVG: "image/svg+xml",
    PNG: "image/png",
    ndjson: "application/x-ndjson",
  };
  const kinds = Object.keys(types);
  const downloads = kinds.map((kind) => fileButton("Download", kind, "Into your downloads"));
  const places = { ndjson: "Training data, under its word" };
  const saves = kinds.map((kind) =>
    fileButton("Save", kind, places[kind] ?? "On the kernel's disk"),
  );
  const next = button(GAME.off, "A word to draw within the game's 20 seconds, then saved as data");
  const stop = button("Stop");
  const status = element("p", { role: "status", class: "doodle-said" });
  const alarm = element("p", { role: "alert", class: "doodle-alarm" });
  const busy = element("span", { class: "doodle-busy", role: "progressbar", hidden: "" });
  busy.ariaLabel = "The kernel is at work";
  const endings = makeEndings((strokes, added) => {
    change(() => drawing.set([...strokes, ...added], performance.now()));
    say("It is a part of your drawing now; Undo takes it back.");
  });
  const saving = row("Save", element("span", { class: "doodle-quiet" }, "Save"), ...saves);
  const gaming = row("Game", next, stop);
  for (const one of [saving, gaming]) one.hidden = !acts.includes("save");
  reconstruct.hidden = !acts.includes("reconstruct");
  retime.hidden = !acts.includes("retime");
  el.classList.add("doodles", "doodle-pad");
  el.append(
    sheet,
    element(
      "div",
      { class: "doodle-side" },
      row("Drawing", undo, redo, clear, eraser, trace, file),
      verdict,
      guesses,
      element("label", { class: "doodle-row" }, "Word", word, list, isGuess),
      row("Models", complete, reconstruct, retime),
      row("Model", element("label", {}, auto, " Draw on when I stop"), take),
      row("Download", element("span", { class: "doodle-quiet" }, "Download"), ...downloads),
      saving,
      gaming,
      element("div", { class: "doodle-row" }, status, busy),
      alarm,
      known,
    ),
    endings.el,
  );
  keepKeys(el);

  // state
  const drawing = makeDrawing(paint);
  const game = makeGame(words, play);
  let pen = null; // the pointer that draws or erases, or "keys"
  let isErasing = false;
  let mark = 0; // where in the drawing's past the eraser was put down
  let at = [size / 2, size / 2]; // where the arrow keys have moved the pen
  let reported = 0; // when the kernel was last told
  let isChosen = Boolean(before?.word); // the person chose the word
  let isGone = false; // the kernel
  let turn = 0; // of the model; an answer that belongs to an earlier one is too late
  let suggestion = null; // strokes that the model draws on the paper
  let frame = 0;
  const open = new Map(); // what was asked of the kernel: by id, what takes its answer

  // what the page says
  function say(text, isError = false) {
    status.textContent = isError ? "" : text;
    set(alarm, "textContent", isError ? text : isGone ? GONE : "");
  }

  function set(element, name, value) {
    if (element[name] !== value) element[name] = value; // read out only when it changes
  }

  function paint() {
    ink.setAttribute("d", inkAt(drawing.strokes));
    update();
  }

  function update() {
    const isEmpty = drawing.isEmpty;
    undo.disabled = !drawing.canUndo;
    redo.disabled = !drawing.canRedo;
    clear.disabled = isEmpty;
    eraser.disabled = isEmpty && !isErasing;
    take.hidden = suggestion === null;
    const [toGif, ...others] = downloads;
    for (const one of others) one.disabled = isEmpty;
    for (const one of [complete, reconstruct, retime, toGif, ...saves]) {
      one.disabled = isEmpty || isGone;
    }
    busy.hidden = open.size === 0 || isGone;
    stop.hidden = game.state === "off";
    asks.hidden = game.state === "off";
    set(next, "textContent", GAME[game.state]);
    next.disabled = isGone || words.length === 0;
    const guessed = word.value && !isChosen ? "guessed" : "";
    set(isGuess, "textContent", guessed);
    const held = document.activeElement;
    // the focus would be lost with its button
    if (held?.disabled && el.contains(held)) paper.focus({ preventScroll: true });
  }

  // the kernel
  function report() {
    reported = performance.now();
    keep(key, { strokes: drawing.strokes, word: isChosen ? word.value : "" });
    if (!isGone) save(model, "strokes", structuredClone(drawing.strokes));
  }

  /** The kernel's answer; null where there is none, or it is an error, which is shown. */
  async function ask(act, more = {}) {
    const id = Math.random();
    const slow = setTimeout(() => say(SLOW), PATIENCE);
    const answered = new Promise((resolve) => open.set(id, resolve));
    const content = { strokes: drawing.strokes, word: word.value.trim(), wait: drawing.wait };
    model.send({ id, act, ...content, ...more });
    update();
    const answer = await answered;
    clearTimeout(slow);
    open.delete(id);
    update();
    if (status.textContent === SLOW) say("");
    if (answer?.error) say(answer.error, true);
    return answer?.error ? null : answer;
  }

  function lose() {
    isGone = true;
    for (const answer of open.values()) answer(null);
    quiet();
    say(GONE, true);
    update();
  }

  function judge() {
    const found = model.get("guesses");
    set(verdict, "textContent", found.length ? `Looks like: ${found[0][0]}` : "");
    guesses.replaceChildren(
      ...found.map(([one, share]) => {
        const text = `${Math.round(share * 100)} %`;
        const bar = element("progress", { max: 1, value: share, "aria-label": one });
        return element("li", {}, element("span", {}, one), bar, element("span", {}, text));
      }),
    );
    if (!isChosen) word.value = found.map(([one]) => one).find((one) => words.includes(one)) ?? "";
    update();
  }

  // the model's ink
  function quiet() {
    turn += 1;
    cancelAnimationFrame(frame);
    suggestion = null;
    modelInk.setAttribute("d", "");
  }

  async function drawOn() {
    quiet();
    const [mine, strokes] = [turn, drawing.strokes];
    const answer = await ask("complete", { n: 1 });
    if (mine !== turn || answer === null) return;
    const added = addition(answer.endings[0], strokes);
    if (added.length === 0) return say("The model would add nothing: your drawing is finished.");
    say("The model draws on; touch the paper to go on yourself.");
    suggestion = added;
    const seen = curved(added);
    update();
    const [since, start, end] = [performance.now(), endOf(strokes), endOf(added)];
    const tick = (now) => {
      const time = isCalm() ? end : start + now - since;
      modelInk.setAttribute("d", inkAt(seen, time));
      if (time < end) frame = requestAnimationFrame(tick);
      else say("The model has finished your drawing.");
    };
    tick(since);
  }

  async function completeIt() {
    quiet();
    endings.clear();
    say("");
    const [mine, strokes] = [turn, drawing.strokes];
    let count = 0;
    for (const n of BATCHES) {
      const answer = await ask("complete", { n, strokes });
      if (mine !== turn || answer === null) return;
      for (const ending of answer.endings) {
        const added = addition(ending, strokes);
        if (added.length > 0) endings.add(strokes, added);
        count += 1;
      }
    }
    const done = count - endings.count;
    if (done === count) say("The model would add nothing: your drawing is finished.");
    else if (done > 0) say(`${done} of ${count} times the model would add nothing.`);
  }

  function change(act) {
    if (pen !== null) lift();
    quiet();
    act();
    report();
    say("");
  }

  // the game
  function play() {
    set(prompt, "textContent", `Draw: ${game.word}`);
    clock.textContent = `${Math.ceil(game.left / 1000)} s`;
    if (game.state === "over") finish();
    update();
  }

  function begin() {
    drawing.ask(performance.now());
    game.start();
    report();
  }

  async function finish() {
    if (pen !== null) lift();
    drawing.ask(null);
    if (drawing.isEmpty) return say("Time is up, and the paper is empty.");
    const answer = await ask("save", { suffix: ".ndjson", word: game.word });
    if (answer) say(`Saved ${answer.saved}`);
  }

  // pen, finger, mouse and keys
  function place(event) {
    const { left, top, width } = paper.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top].map((px) => (px * size) / width);
  }

  function lower(who, point, when) {
    if (game.state === "over") return;
    if (game.state === "asked") begin();
    quiet();
    pen = who;
    if (!isErasing) return drawing.begin(point, when);
    mark = drawing.mark;
    drawing.erase(point, NEAR);
  }

  function move(point, when) {
    if (isErasing) drawing.erase(point, NEAR);
    else drawing.extend(point, when);
  }

  function lift() {
    pen = null;
    if (isErasing) drawing.join(mark);
    else drawing.finish();
    if (auto.checked && !drawing.isEmpty && !isGone && !isErasing) drawOn(); // before it guesses
    report();
    update();
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
    if (performance.now() - reported > LIVE) report();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    paper.addEventListener(name, (event) => event.pointerId === pen && lift());
  }
  paper.addEventListener("keydown", (event) => {
    const way = ARROWS[event.key];
    const isCommand = event.ctrlKey || event.metaKey;
    const letter = event.key.toLowerCase();
    const isRedo = isCommand && (letter === "y" || (letter === "z" && event.shiftKey));
    const isUndo = isCommand && letter === "z" && !event.shiftKey;
    if (!way && !isUndo && !isRedo && event.key !== " ") return;
    event.preventDefault();
    if (pen !== null && pen !== "keys") return;
    if (isUndo || isRedo) {
      if (pen === null) change(isUndo ? drawing.undo : drawing.redo);
    } else if (way) {
      at = at.map((px, axis) => Math.max(0, Math.min(size, px + STEP * way[axis])));
      if (pen) move(at, event.timeStamp);
    } else if (pen) lift();
    else {
      lower("keys", at, event.timeStamp);
      if (isErasing && pen) lift();
    }
    cursor.setAttribute("class", pen ? "doodle-pen" : "doodle-hover");
    cursor.setAttribute("cx", at[0]);
    cursor.setAttribute("cy", at[1]);
  });

  // buttons
  undo.addEventListener("click", () => change(drawing.undo));
  redo.addEventListener("click", () => change(drawing.redo));
  clear.addEventListener("click", () => change(drawing.clear));
  eraser.addEventListener("click", () => {
    if (pen !== null) lift();
    isErasing = !isErasing;
    eraser.setAttribute("aria-pressed", isErasing);
    paper.classList.toggle("doodle-erases", isErasing);
    update();
  });
  trace.addEventListener("click", () => {
    if (!picture.hasAttribute("href")) return file.click();
    picture.removeAttribute("href");
    trace.textContent = "Trace a picture…";
  });
  file.addEventListener("change", () => {
    const [chosen] = file.files;
    file.value = "";
    if (!chosen) return;
    const reader = new FileReader();
    reader.addEventListener("load", () => {
      picture.setAttribute("href", reader.result);
      trace.textContent = "Remove the picture";
    });
    reader.readAsDataURL(chosen);
  });
  word.addEventListener("input", () => {
    isChosen = word.value.trim() !== "";
    update();
  });
  word.addEventListener("change", () => (report(), judge()));
  auto.addEventListener("change", () => {
    if (!auto.checked) quiet(), say(""), update();
    else if (!drawing.isEmpty) drawOn();
  });
  take.addEventListener("click", () => {
    const added = suggestion;
    change(() => drawing.set([...drawing.strokes, ...added], performance.now()));
  });
  complete.addEventListener("click", completeIt);
  for (const [one, act] of [[reconstruct, "reconstruct"], [retime, "retime"]]) {
    one.addEventListener("click", () => {
      say("");
      ask(act);
    });
  }
  for (const [index, kind] of kinds.entries()) {
    const suffix = `.${kind.toLowerCase()}`;
    saves[index].addEventListener("click", async () => {
      const answer = await ask("save", { suffix });
      if (answer) say(`Saved ${answer.saved}`);
    });
    downloads[index].addEventListener("click", async () => {
      const [strokes, title] = [drawing.strokes, word.value.trim()];
      const make = {
        GIF: () => gifOf(strokes),
        SVG: () => toSVG(strokes, { title }),
        PNG: () => toPNG(strokes),
        ndjson: () => toNdjson([strokes], title, { wait: drawing.wait }),
      };
      if (kind === "ndjson" && !title) return say("Say in Word what the drawing shows.", true);
      const content = await make[kind]();
      if (content) download(`${title || "drawing"}${suffix}`, types[kind], content);
    });
  }
  next.addEventListener("click", () => {
    if (game.state === "asked") return begin();
    if (game.state === "running") return game.finish();
    say("");
    game.next();
    change(drawing.clear);
    [word.value, isChosen] = [game.word, true];
    update();
  });
  stop.addEventListener("click", () => {
    drawing.ask(null);
    isChosen = false;
    game.stop();
    judge();
  });

  // what comes from the kernel
  model.on("change:strokes", () => {
    const now = model.get("strokes");
    if (pen !== null || JSON.stringify(now) === JSON.stringify(drawing.strokes)) return;
    quiet();
    drawing.load(now, performance.now()); // set by the kernel
    keep(key, { strokes: now, word: isChosen ? word.value : "" });
  });
  model.on("change:guesses", judge);
  model.on("msg:custom", (answer, buffers) => open.get(answer.id)?.({ ...answer, buffers }));
  model.on("comm_live_update", () =>
    // once all that is around it has been told
    setTimeout(() => el.closest(".jupyter-widgets-disconnected") && lose()),
  );

  const few = named.length < FEW;
  known.firstChild.textContent = `It can name ${names(named)}, and draw ${names(words)}`;
  known.lastChild.textContent = `Named: ${named.join(", ")}.${
    words.every((one) => named.includes(one)) ? "" : ` Drawn: ${words.join(", ")}.`
  }`;
  known.open = few;
  if (isChosen) word.value = before.word;
  const [own, stored] = [model.get("strokes"), before?.strokes ?? []];
  drawing.load(own.length ? own : stored, performance.now());
  judge();
  if (own.length === 0 && stored.length > 0) report(), say(BACK);
  return () => {
    quiet();
    game.stop();
    endings.stop();
  };
}

export default { render };
