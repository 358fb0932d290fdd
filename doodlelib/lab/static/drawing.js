// A drawing as it is made: strokes [x, y, t], px and ms, with undo and redo, an eraser, and the
// clock of the game. Nothing here knows of a page or of a kernel.

const JOIN = 5; // ms: a time that went through the model and back may have moved by so much
const PACE = 5; // ms a px, where an ending has no times
const STUB = 0.1; // of a drawing's side: to go on with a stroke by less is to add nothing

const rounded = (value) => Math.round(value * 10) / 10;

/** When the last point of strokes was drawn, ms. */
export const endOf = (strokes) => strokes.at(-1)?.[2].at(-1) ?? 0;

/** How far the point [px, py] is from a stroke, px. */
function distance([x, y], [px, py]) {
  const gaps = x.map((right, i) => {
    const [left, top] = [x[i - 1] ?? right, y[i - 1] ?? y[i]];
    const [dx, dy] = [right - left, y[i] - top];
    const along = ((px - left) * dx + (py - top) * dy) / (dx * dx + dy * dy || 1);
    const share = Math.max(0, Math.min(1, along));
    return Math.hypot(left + share * dx - px, top + share * dy - py);
  });
  return Math.min(...gaps);
}

const lengthOf = ([x, y]) =>
  x.reduce((sum, px, i) => sum + (i ? Math.hypot(px - x[i - 1], y[i] - y[i - 1]) : 0), 0);

/** Left, top, width and height of strokes. */
export function boxOf(strokes) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of strokes) {
    for (const px of x) [left, right] = [Math.min(left, px), Math.max(right, px)];
    for (const px of y) [top, bottom] = [Math.min(top, px), Math.max(bottom, px)];
  }
  return [left, top, right - left, bottom - top];
}

/** What of strokes was drawn up to `time`; the line that is being drawn ends between two points. */
export function upTo(strokes, time) {
  const begun = strokes.filter(([, , t]) => t[0] <= time);
  return begun.map(([x, y, t]) => {
    const next = t.findIndex((at) => at > time);
    if (next < 0) return [x, y, t];
    const share = (time - t[next - 1]) / (t[next] - t[next - 1]);
    const between = (row) => row[next - 1] + share * (row[next] - row[next - 1]);
    return [x, y, t].map((row) => [...row.slice(0, next), between(row)]);
  });
}

/**
 * What an ending adds to the strokes that it was made for, in their px and at times after theirs.
 *
 * The ending is the whole drawing, `side` px large where the strokes are, from anywhere; strokes
 * [x, y, t], or [x, y] with all points of the strokes first.
 */
export function addition(ending, strokes, side = 255) {
  const [, , width, height] = boxOf(strokes);
  const scale = (Math.max(width, height) || side) / side;
  const [dx, dy] = [0, 1].map((axis) => strokes[0][axis][0] - ending[0][axis][0] * scale);
  const last = strokes.at(-1).map((row) => row.at(-1));
  const start = strokes[0][2][0];
  let known = strokes.reduce((sum, [x]) => sum + x.length, 0);
  const added = [];
  for (const [x, y, t] of ending) {
    const first = t ? t.findIndex((at) => at + start > last[2] + JOIN) : known;
    known = Math.max(0, known - x.length);
    if (first < 0 || first >= x.length) continue;
    const stroke = [
      x.slice(first).map((px) => rounded(px * scale + dx)),
      y.slice(first).map((px) => rounded(px * scale + dy)),
      (t ?? []).slice(first).map((at) => rounded(at + start)),
    ];
    // a stroke that goes on starts where the pen is
    if (first > 0) last.forEach((value, row) => stroke[row].unshift(value));
    if (!t) {
      let [left, top, at] = added.at(-1)?.map((row) => row.at(-1)) ?? last;
      stroke[2] = stroke[0].map((px, i) => {
        at += PACE * Math.hypot(px - left, stroke[1][i] - top);
        [left, top] = [px, stroke[1][i]];
        return rounded(at);
      });
    }
    added.push(stroke);
  }
  const isStub = added.length === 1 && added[0][0][0] === last[0] && added[0][1][0] === last[1];
  return isStub && lengthOf(added[0]) < STUB * side * scale ? [] : added;
}

/**
 * A drawing with its history. `onChange` is called after each change.
 *
 * Its clock is that of the moments it is given ("when", ms, such as an event's timeStamp). What is
 * undone or erased leaves its time behind, as a longer pause.
 */
export function makeDrawing(onChange) {
  let strokes = [];
  let past = []; // drawings as they were; strokes that stayed are the same lists
  let future = [];
  let origin = 0; // when t = 0 was
  let asked = null; // when the person was asked to draw
  const waits = new WeakMap(); // ms from there to the first point, by the first stroke
  let isDown = false;

  function change(to) {
    past.push(strokes);
    future = [];
    strokes = to;
    onChange();
  }

  function step(from, to) {
    if (isDown || from.length === 0) return;
    to.push(strokes);
    strokes = from.pop();
    onChange();
  }

  function add([x, y], when) {
    const at = Math.max(endOf(strokes), rounded(when - origin));
    [x, y, at].forEach((value, row) => strokes.at(-1)[row].push(row < 2 ? rounded(value) : value));
  }

  return {
    get strokes() {
      return strokes;
    },
    get isEmpty() {
      return strokes.length === 0;
    },
    get isDown() {
      return isDown;
    },
    get canUndo() {
      return past.length > 0;
    },
    get canRedo() {
      return future.length > 0;
    },
    /** ms from when the person was asked to draw to the first point; null if nobody asked. */
    get wait() {
      return waits.get(strokes[0]) ?? null;
    },
    /** The pen touches the paper. */
    begin(point, when) {
      const isFirst = strokes.length === 0;
      if (isFirst) origin = when;
      if (when - origin < endOf(strokes)) origin = when - endOf(strokes); // after an undo
      isDown = true;
      past.push(strokes);
      future = [];
      strokes = [...strokes, [[], [], []]];
      if (isFirst && asked !== null) waits.set(strokes[0], rounded(when - asked));
      add(point, when);
      onChange();
    },
    /** The pen moves on the paper. */
    extend(point, when) {
      add(point, when);
      onChange();
    },
    /** The pen is lifted. */
    finish() {
      isDown = false;
      onChange();
    },
    undo: () => step(past, future),
    redo: () => step(future, past),
    /** An empty paper, which can be undone. */
    clear() {
      if (strokes.length > 0) change([]);
    },
    /** Other strokes, which can be undone; the last point counts as drawn at `when`. */
    set(to, when) {
      change(structuredClone(to));
      origin = when - endOf(strokes);
    },
    /** As `set`, with no past. */
    load(to, when) {
      strokes = structuredClone(to);
      [past, future] = [[], []];
      origin = when - endOf(strokes);
      onChange();
    },
    /** Take away the strokes within `radius` px of a point; whether there was one. */
    erase(point, radius) {
      const kept = strokes.filter((stroke) => distance(stroke, point) > radius);
      if (kept.length === strokes.length) return false;
      change(kept);
      return true;
    },
    /** What follows becomes one step with what was undoable at this `mark` of `past`. */
    get mark() {
      return past.length;
    },
    join(mark) {
      past.length = Math.min(past.length, mark + 1);
    },
    /** The person is asked to draw, on an empty paper, from `when` on; null: nobody asks. */
    ask(when) {
      if (when !== null && strokes.length > 0) change([]);
      asked = when;
    },
  };
}

/**
 * The game: a word, and `limit` ms to draw it.
 *
 * Its `state` is "off", "asked" (the word is shown), "running" or "over"; `onChange` is called
 * after each change, and ten times a second while it runs. Times are of `performance.now()`.
 */
export function makeGame(words, onChange, { limit = 20_000, now = () => performance.now() } = {}) {
  let [state, word, started, timer] = ["off", "", 0, 0];

  function enter(next) {
    clearInterval(timer);
    state = next;
    if (next === "running") {
      started = now();
      timer = setInterval(() => (now() - started >= limit ? enter("over") : onChange()), 100);
    }
    onChange();
  }

  return {
    get state() {
      return state;
    },
    get word() {
      return word;
    },
    /** ms that are left. */
    get left() {
      if (state === "over") return 0;
      return state === "running" ? Math.max(0, limit - (now() - started)) : limit;
    },
    /** Another word. */
    next() {
      const others = words.filter((one) => one !== word);
      word = others[Math.floor(Math.random() * others.length)] ?? words[0];
      enter("asked");
    },
    start: () => enter("running"),
    finish: () => enter("over"),
    stop: () => enter("off"),
  };
}
