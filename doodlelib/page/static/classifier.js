// The classifier: a drawing's image as `raster.py` makes it, and the network of `models/cnn.py`.

import { rowTimes } from "./sketcher.js";

const CANVAS = 304; // units to an image's side; the drawing's larger side is BOX of them
const BOX = 255;
const LINE = 16;
const SIDE = 28;

/** Ink of a drawing, 0 to 255, in an image of 28 x 28. */
export function rasterize(drawing) {
  const image = new Uint8Array(SIDE * SIDE);
  const radius = ((LINE / CANVAS) * SIDE) / 2;
  const reach = radius + Math.SQRT1_2;
  const all = [0, 1].map((axis) => drawing.flatMap((stroke) => [...stroke[axis]]));
  const low = all.map((values) => Math.min(...values));
  const high = all.map((values) => Math.max(...values));
  const extent = Math.max(high[0] - low[0], high[1] - low[1]);
  const scale = (SIDE / CANVAS) * (extent > 0 ? BOX / extent : 1);
  const within = (value, axis) => (value - (low[axis] + high[axis]) / 2) * scale + SIDE / 2;
  for (const stroke of drawing) {
    const layer = new Uint8Array(SIDE * SIDE);
    const [x, y] = [0, 1].map((axis) => [...stroke[axis]].map((value) => within(value, axis)));
    for (let point = 0; point < x.length; point++) {
      const before = Math.max(point - 1, 0);
      const [dx, dy] = [x[point] - x[before], y[point] - y[before]];
      const length = dx * dx + dy * dy;
      const left = Math.max(0, Math.trunc(Math.min(x[before], x[point]) - reach));
      const right = Math.min(SIDE, Math.trunc(Math.max(x[before], x[point]) + reach) + 1);
      const top = Math.max(0, Math.trunc(Math.min(y[before], y[point]) - reach));
      const bottom = Math.min(SIDE, Math.trunc(Math.max(y[before], y[point]) + reach) + 1);
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          let [px, py] = [column + 0.5 - x[before], row + 0.5 - y[before]];
          const along = length > 0 ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
          [px, py] = [Math.abs(px - along * dx), Math.abs(py - along * dy)];
          const distance = Math.hypot(px, py);
          if (distance >= reach) continue;
          const value = Math.trunc(255 * covered(px, py, distance, radius) + 0.5);
          const at = row * SIDE + column;
          layer[at] = Math.max(layer[at], value);
        }
      }
    }
    layer.forEach((above, at) => {
      const below = image[at];
      image[at] = below + above - Math.trunc((below * above + 127) / 255);
    });
  }
  return image;
}

/** The area of a pixel on the near side of an edge at `radius` from a line. */
function covered(px, py, distance, radius) {
  const [long, short] = distance > 0
    ? [Math.max(px, py) / distance, Math.min(px, py) / distance]
    : [1, 0];
  const beyond = Math.abs(radius - distance);
  let area = 0; // on the far side
  if (beyond <= (long - short) / 2) area = 0.5 - beyond / long;
  else if (beyond < (long + short) / 2) {
    area = ((long + short) / 2 - beyond) ** 2 / (2 * long * short);
  }
  return distance > radius ? area : 1 - area;
}

/** A 3x3 convolution of an image { side, channels, values }, values in rows of channels. */
function convolve({ side, channels, values }, { weight, bias }, stride, isRectified) {
  const outputs = weight.rows;
  const to = Math.ceil(side / stride);
  const made = new Float32Array(to * to * outputs);
  const patch = new Float32Array(9 * channels);
  for (let row = 0; row < to; row++) {
    for (let column = 0; column < to; column++) {
      patch.fill(0);
      for (let place = 0; place < 9; place++) {
        const y = row * stride + Math.trunc(place / 3) - 1;
        const x = column * stride + (place % 3) - 1;
        if (y < 0 || x < 0 || y >= side || x >= side) continue;
        const at = (y * side + x) * channels;
        patch.set(values.subarray(at, at + channels), place * channels);
      }
      project(patch, weight, bias, made, (row * to + column) * outputs);
    }
  }
  if (isRectified) made.forEach((value, i) => (made[i] = Math.max(value, 0)));
  return { side: to, channels: outputs, values: made };
}

/** Matrix times vector plus bias, into `made` from `at` on. */
function project(x, { rows, columns, values }, bias, made, at) {
  for (let row = 0; row < rows; row++) {
    made[at + row] = bias.values[row] + rowTimes(values, row * columns, columns, x);
  }
}

/** Means of squares of `stride` pixels, fewer at the far edges. */
function shrink({ side, channels, values }, stride) {
  const to = Math.ceil(side / stride);
  const made = new Float32Array(to * to * channels);
  const counts = new Float32Array(to * to);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      const place = Math.trunc(y / stride) * to + Math.trunc(x / stride);
      counts[place] += 1;
      for (let i = 0; i < channels; i++) {
        made[place * channels + i] += values[(y * side + x) * channels + i];
      }
    }
  }
  made.forEach((_, i) => (made[i] /= counts[Math.trunc(i / channels)]));
  return { side: to, channels, values: made };
}

export class Classifier {
  /** `spec` and `tensors` are those of a page: see `build.py`. */
  constructor(spec, tensors) {
    Object.assign(this, { spec, tensors });
  }

  /** The layer of this name: its weights, with batch norm in them, and its bias. */
  #layer(name) {
    return { weight: this.tensors[name], bias: this.tensors[`${name}_bias`] };
  }

  /** Logits of the words for a drawing. */
  logits(drawing) {
    const ink = Float32Array.from(rasterize(drawing), (value) => value / 255);
    let x = convolve({ side: SIDE, channels: 1, values: ink }, this.#layer("stem"), 1, true);
    this.spec.strides.forEach((stride, block) => {
      const inner = convolve(x, this.#layer(`${block}_first`), stride, true);
      const outer = convolve(inner, this.#layer(`${block}_second`), 1, false);
      let way = x;
      if (`${block}_shortcut` in this.tensors) {
        const { weight, bias } = this.#layer(`${block}_shortcut`);
        const { side, channels, values } = stride > 1 ? shrink(x, stride) : x;
        way = { values: new Float32Array(side * side * weight.rows) };
        for (let at = 0; at < side * side; at++) {
          const pixel = values.subarray(at * channels, (at + 1) * channels);
          project(pixel, weight, bias, way.values, at * weight.rows);
        }
      }
      outer.values.forEach((value, i) => (outer.values[i] = Math.max(value + way.values[i], 0)));
      x = outer;
    });
    const pooled = new Float32Array(x.channels);
    x.values.forEach((value, i) => (pooled[i % x.channels] += value / (x.side * x.side)));
    const { weight, bias } = this.#layer("head");
    const found = new Float32Array(weight.rows);
    project(pooled, weight, bias, found, 0);
    return found;
  }

  /** The likeliest words and their probabilities. */
  guesses(drawing, count = 5) {
    const scaled = this.logits(drawing).map((logit) => logit / this.spec.temperature);
    const most = scaled.reduce((a, b) => Math.max(a, b));
    const weights = scaled.map((logit) => Math.exp(logit - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    const order = [...weights.keys()].sort((a, b) => weights[b] - weights[a]);
    return order.slice(0, count).map((word) => [this.spec.words[word], weights[word] / sum]);
  }
}
