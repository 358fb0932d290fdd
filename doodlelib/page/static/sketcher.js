// The decoder of the sketch VAE: what `models/network.py` and `models/mdn.py` compute, row by row.
// A row is [dx, dy, time, down, up, end] in model units. Matrices are { rows, columns, values }.

const FEATURES = 11; // of a row: itself, whether its time is known, position, offset in the stroke
const PARAMETERS = 9; // of a component of the mixture
const DOWN = 0;
const UP = 1;
const END = 2;
const MAX_LOG = 10;
const MAX_RHO = 1 - 1e-4;
const MAX_TIME = 8;
const LEAST_SQUARE = 1e-4;
const EPSILON = 1e-5; // of layer norm

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const clamped = (x, most) => Math.min(Math.max(x, -most), most);

/** The product of a row of a matrix, which begins at `first`, and a vector. */
export function rowTimes(values, first, columns, x) {
  let a = 0, b = 0, c = 0, d = 0; // four sums, which a processor adds side by side
  let i = 0;
  for (; i + 3 < columns; i += 4) {
    a += values[first + i] * x[i];
    b += values[first + i + 1] * x[i + 1];
    c += values[first + i + 2] * x[i + 2];
    d += values[first + i + 3] * x[i + 3];
  }
  for (; i < columns; i++) a += values[first + i] * x[i];
  return a + b + (c + d);
}

/** Add the product of a matrix with each of some vectors to as many results. */
export function multiply({ rows, columns, values }, vectors, results) {
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < vectors.length; k++) {
      results[k][row] += rowTimes(values, row * columns, columns, vectors[k]);
    }
  }
}

/** Some columns of a row. */
function columns({ columns, values }, row, from, to) {
  return values.subarray(row * columns + from, row * columns + to);
}

/** A matrix of these rows. */
function joined(rows, make) {
  const width = make(0).length;
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) values.set(make(row), row * width);
  return { rows, columns: width, values };
}

/** Normalise `size` numbers from `start` on, in place. */
function normalise(values, start, size) {
  let [sum, squares] = [0, 0];
  for (let i = start; i < start + size; i++) sum += values[i];
  const mean = sum / size;
  for (let i = start; i < start + size; i++) squares += (values[i] - mean) ** 2;
  const factor = 1 / Math.sqrt(squares / size + EPSILON);
  for (let i = start; i < start + size; i++) values[i] = (values[i] - mean) * factor;
}

/** An index with probability softmax(logits / temperature), at 0 the largest. */
export function choose(logits, temperature, chance) {
  const most = Math.max(...logits);
  if (temperature === 0) return logits.indexOf(most);
  const weights = logits.map((logit) => Math.exp((logit - most) / temperature));
  let left = chance * weights.reduce((sum, weight) => sum + weight, 0);
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i];
    if (left < 0) return i;
  }
  return weights.length - 1;
}

function normal(random) {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Standard deviations of dx and dy, and their correlation, of a component. */
function covariance(values, at, regCovar) {
  const [rawX, rawY] = [3, 4].map((i) => Math.exp(clamped(values[at + i], MAX_LOG)));
  const [x, y] = [rawX, rawY].map((raw) => Math.sqrt(raw * raw + regCovar));
  return [x, y, (Math.tanh(values[at + 5]) * MAX_RHO * rawX * rawY) / (x * y)];
}

/** Drawings that a decoder works on: the LSTM's state of each, and where its pen is. */
class Course {
  constructor(size, hidden, known, h, c) {
    Object.assign(this, { known, h, c });
    this.read = new Float32Array(FEATURES + hidden); // features of the last row, and h
    this.read.set(h, FEATURES);
    this.pen = [0, 0, 0, 0]; // position and start of the stroke
    this.output = new Float32Array(size);
  }
}

export class Sketcher {
  /** `spec` and `tensors` are those of a page: see `build.py`. */
  constructor(spec, tensors) {
    const { weight_ih: input, weight_hh: recurrent } = tensors;
    const read = (row) => columns(input, row, 0, FEATURES);
    const kept = (row) => columns(recurrent, row, 0, recurrent.columns);
    this.ofRead = joined(input.rows, (row) => [...read(row), ...kept(row)]);
    this.ofCondition = joined(input.rows, (row) => columns(input, row, FEATURES, input.columns));
    Object.assign(this, { spec, tensors, hidden: spec.hidden });
  }

  /** z for a word: about one of its exemplars; or 0, so that the word alone decides. */
  latent(word, temperature, random = Math.random) {
    const { mean, std } = { mean: this.tensors.exemplar_mean, std: this.tensors.exemplar_std };
    const z = new Float32Array(this.spec.latent);
    if (temperature === null) return z;
    const first = word * this.spec.exemplars + Math.floor(random() * this.spec.exemplars);
    const spread = Math.sqrt(temperature);
    return z.map((_, i) => {
      const at = first * z.length + i;
      return mean.values[at] + spread * std.values[at] * normal(random);
    });
  }

  /** A drawing at its first point, from z and the index of its word. */
  begin(z, word) {
    const { tensors, hidden, spec } = this;
    const condition = Float32Array.of(...z, ...columns(tensors.embed_word, word, 0, tensors.embed_word.columns));
    const states = Float32Array.from(tensors.to_state_bias.values);
    multiply(tensors.to_state, [condition], [states]);
    states.forEach((value, i) => (states[i] = Math.tanh(value)));
    const known = new Float32Array(4 * hidden);
    multiply(this.ofCondition, [condition], [known]);
    const [h, c] = [states.slice(0, hidden), states.slice(hidden)];
    return new Course(tensors.head.rows, hidden, known, h, c);
  }

  /** Let each drawing read a row of its own; its `output` then is of the next row. */
  read(courses, rows, isTimed = true) {
    const { tensors, hidden, spec } = this;
    courses.forEach((course, k) => {
      const [row, pen] = [rows[k], course.pen];
      pen[0] += row[0];
      pen[1] += row[1];
      if (row[3 + UP] > 0.5) [pen[2], pen[3]] = pen;
      const offsets = [pen[0], pen[1], pen[0] - pen[2], pen[1] - pen[3]];
      course.read.set(row);
      course.read[2] = isTimed ? row[2] : 0;
      course.read[6] = isTimed ? 1 : 0;
      course.read.set(offsets.map((value) => value * spec.halfBoxes), 7);
    });
    const gates = courses.map(({ known }) => Float32Array.from(known));
    multiply(this.ofRead, courses.map((course) => course.read), gates);
    courses.forEach((course, k) => this.#step(course, gates[k]));
    for (const { output } of courses) output.set(tensors.head_bias.values);
    multiply(tensors.head, courses.map((course) => course.h), courses.map(({ output }) => output));
  }

  /** The LSTM's cell, with layer norm on each gate and on the cell. */
  #step({ h, c, read }, gates) {
    const { gain, bias, norm_gain: normGain, norm_bias: normBias } = this.tensors;
    const size = this.hidden;
    for (let gate = 0; gate < 4; gate++) normalise(gates, gate * size, size);
    for (let i = 0; i < 4 * size; i++) gates[i] = gates[i] * gain.values[i] + bias.values[i];
    const cell = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      const kept = sigmoid(gates[size + i]) * c[i];
      c[i] = kept + sigmoid(gates[i]) * Math.tanh(gates[2 * size + i]);
    }
    cell.set(c);
    normalise(cell, 0, size);
    for (let i = 0; i < size; i++) {
      const shown = cell[i] * normGain.values[i] + normBias.values[i];
      h[i] = sigmoid(gates[3 * size + i]) * Math.tanh(shown);
    }
    read.set(h, FEATURES);
  }

  /** Sample the row after those that a drawing has read. */
  sample({ output }, { temperature, timeTemperature, random = Math.random, mayEnd = true }) {
    const { modes, regCovar } = this.spec;
    const logits = [...output.subarray(0, mayEnd ? 3 : 2)];
    const event = choose(logits, temperature, random());
    const row = [0, 0, 0, 0, 0, 0];
    row[3 + event] = 1;
    if (event === END) return row;
    const first = 3 + modes * PARAMETERS * (event === UP);
    const places = Array.from({ length: modes }, (_, m) => first + m * PARAMETERS);
    let at = places[choose(places.map((place) => output[place]), temperature, random())];
    const [stdX, stdY, rho] = covariance(output, at, regCovar);
    const [noiseX, noiseY] = [normal(random), normal(random)];
    const spread = Math.sqrt(temperature);
    row[0] = output[at + 1] + spread * stdX * noiseX;
    row[1] = output[at + 2] + spread * stdY * (rho * noiseX + Math.sqrt(1 - rho * rho) * noiseY);
    const terms = places.map((place) => this.#positionTerm(output, place, row));
    at = places[choose(terms, timeTemperature, random())];
    const std = Math.sqrt(Math.exp(2 * clamped(output[at + 8], MAX_LOG)) + regCovar);
    const logDistance = 0.5 * Math.log(row[0] ** 2 + row[1] ** 2 + LEAST_SQUARE);
    const mean = output[at + 6] + output[at + 7] * logDistance;
    row[2] = clamped(mean + Math.sqrt(timeTemperature) * std * normal(random), MAX_TIME);
    return row;
  }

  /** Log of a component's weight times its density of a move, but for a constant. */
  #positionTerm(output, at, [dx, dy]) {
    const [stdX, stdY, rho] = covariance(output, at, this.spec.regCovar);
    const [zx, zy] = [(dx - output[at + 1]) / stdX, (dy - output[at + 2]) / stdY];
    const rest = 1 - rho * rho;
    const exponent = (zx * zx + zy * zy - 2 * rho * zx * zy) / (2 * rest);
    return output[at] - exponent - Math.log(stdX * stdY * Math.sqrt(rest));
  }

  /** How long a row's move takes, ms. */
  milliseconds(row) {
    const { segment, pause } = this.spec.scale;
    const [mean, std] = row[3 + UP] > 0.5 ? pause : segment;
    return Math.exp(row[2] * std + mean);
  }

  /** Strokes [x, y, t], px of the 255 box and ms, as the rows of a drawing; the first is 0. */
  rows(drawing) {
    const { xy, segment, pause } = this.spec.scale;
    const found = [];
    let last = null;
    for (const [x, y, t] of drawing) {
      for (let i = 0; i < x.length; i++) {
        const isUp = i === 0 && last !== null;
        const [mean, std] = isUp ? pause : segment;
        const [dx, dy, dt] = last ? [x[i] - last[0], y[i] - last[1], t[i] - last[2]] : [0, 0, 0];
        const time = last ? (Math.log(Math.max(dt, 1)) - mean) / std : 0;
        found.push([dx / xy, dy / xy, time, isUp ? 0 : 1, isUp ? 1 : 0, 0]);
        last = [x[i], y[i], t[i]];
      }
    }
    return found;
  }
}

export { DOWN, END, UP };
