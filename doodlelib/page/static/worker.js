// The models at work, in a thread of their own: weights in, then drawings and guesses.
// What it is asked: { id, kind, ... }; what it answers: { id, ... }, several times for drawings.

import { Classifier } from "./classifier.js";
import { END, Sketcher, UP } from "./sketcher.js";

const AHEAD = 8; // rows that are drawn between two answers

/** The tensors of a model out of the page's bytes, as numbers of 32 bits. */
export function unpack(described, bytes) {
  const made = {};
  for (const [name, { offset, rows, columns, isRounded }] of Object.entries(described)) {
    const size = rows * columns;
    if (!isRounded) {
      made[name] = { rows, columns, values: new Float32Array(bytes, offset, size) };
      continue;
    }
    const factors = new Float32Array(bytes, offset, rows);
    const rounded = new Int8Array(bytes, offset + 4 * rows, size);
    const values = new Float32Array(size);
    for (let i = 0; i < size; i++) values[i] = rounded[i] * factors[Math.trunc(i / columns)];
    made[name] = { rows, columns, values };
  }
  return made;
}

/** Models from what a page holds: `specs` by name, and the bytes of their weights. */
export function open(specs, bytes) {
  const { sketcher, classifier } = specs;
  return {
    sketcher: new Sketcher(sketcher, unpack(sketcher.tensors, bytes)),
    classifier: new Classifier(classifier, unpack(classifier.tensors, bytes)),
  };
}

/** Where `count` drawings of a word begin: each with a z of its own. */
export function starts(sketcher, { count, word, latent }) {
  return Array.from({ length: count }, () => ({ z: sketcher.latent(word, latent), word }));
}

/** Where drawings on the way from one word to another begin, on an arc between two latents. */
export function way(sketcher, { words, steps, latent }) {
  const [a, b] = words.map((word) => sketcher.latent(word, latent));
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const angle = Math.acos(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
  return Array.from({ length: steps }, (_, step) => {
    const share = step / (steps - 1);
    const [far, near] = [1 - share, share].map((part) => Math.sin(part * angle) / Math.sin(angle));
    return { z: a.map((value, i) => far * value + near * b[i]), word: words[Math.round(share)] };
  });
}

/**
 * Draw several doodles at once, a row of each at a time; yields the strokes so far.
 *
 * `prefix` are strokes in the 255 box that all begin with; those yielded follow its last point.
 */
export function* draw(sketcher, starts, { temperature, timeTemperature, prefix = [] }) {
  const known = sketcher.rows(prefix);
  const place = prefix.length ? prefix.at(-1).map((values) => values.at(-1)) : [0, 0, 0];
  const courses = starts.map(({ z, word }) => sketcher.begin(z, word));
  let rows = courses.map(() => [0, 0, 0, 1, 0, 0]);
  sketcher.read(courses, rows);
  for (const row of known.slice(1)) sketcher.read(courses, courses.map(() => row));
  const made = courses.map(() => ({ at: [...place], strokes: [[[place[0]], [place[1]], [place[2]]]] }));
  let going = [...courses.keys()];
  for (let step = Math.max(known.length, 1); step < sketcher.spec.longest && going.length; step++) {
    rows = going.map((k) => sketcher.sample(courses[k], { temperature, timeTemperature }));
    going.forEach((k, i) => extend(made[k], rows[i], sketcher));
    const goes = rows.map((row) => row[3 + END] === 0);
    rows = rows.filter((_, i) => goes[i]);
    going = going.filter((_, i) => goes[i]);
    sketcher.read(going.map((k) => courses[k]), rows);
    yield { drawings: made.map(({ strokes }) => strokes), isOver: made.map((_, k) => !going.includes(k)) };
  }
}

/** Add a row to strokes. */
function extend({ at, strokes }, row, sketcher) {
  if (row[3 + END]) return;
  const { xy } = sketcher.spec.scale;
  at[0] += row[0] * xy;
  at[1] += row[1] * xy;
  at[2] += sketcher.milliseconds(row);
  if (row[3 + UP]) strokes.push([[], [], []]);
  at.forEach((value, axis) => strokes.at(-1)[axis].push(value));
}

let models = null;

const answers = {
  open: ({ specs, bytes }) => {
    models = open(specs, bytes);
    return {};
  },
  guess: ({ drawing }) => ({ guesses: models.classifier.guesses(drawing) }),
};

if (typeof WorkerGlobalScope !== "undefined") {
  onmessage = async ({ data: { id, kind, ...asked } }) => {
    if (kind !== "draw" && kind !== "way") {
      postMessage({ id, ...answers[kind](asked) });
      return;
    }
    let rows = 0;
    let last = null;
    const begun = { draw: starts, way }[kind](models.sketcher, asked);
    for (last of draw(models.sketcher, begun, asked)) {
      if (++rows % AHEAD) continue;
      postMessage({ id, ...last, isDone: false });
      await new Promise((done) => setTimeout(done)); // to hear what else is asked
    }
    postMessage({ id, ...(last ?? { drawings: [], isOver: [] }), isDone: true });
  };
}
