// GIFs made in the page: figures are painted moment by moment, and what changed is written.

const FRAME = 40; // ms; more where a drawing takes so long that there were over MOST frames
const MOST = 750;
const HOLD = 1000; // ms that the finished drawings stay
const COLORS = { "doodle-ink": [26, 26, 26], "doodle-fresh": [1, 115, 178], pen: [213, 94, 0] };
// white, and each color in five shades from faint to full, as smooth edges need them
const PALETTE = [[255, 255, 255]];
for (const full of Object.values(COLORS)) {
  for (const share of [0.2, 0.4, 0.6, 0.8, 1]) {
    PALETTE.push(full.map((value) => Math.round(255 + share * (value - 255))));
  }
}
const BITS = 4;

const nearest = new Map(); // of colors in 12 bits, as they are met
function indexOf(r, g, b) {
  const key = ((r >> 4) << 8) | ((g >> 4) << 4) | (b >> 4);
  if (!nearest.has(key)) {
    const costs = PALETTE.map(([R, G, B]) => (r - R) ** 2 + (g - G) ** 2 + (b - B) ** 2);
    nearest.set(key, costs.indexOf(Math.min(...costs)));
  }
  return nearest.get(key);
}

const word = (value) => [value & 255, value >> 8];

/** Indices of a picture, compressed by the format's variant of LZW. */
function compressed(indices) {
  const [clear, end] = [1 << BITS, (1 << BITS) + 1];
  const bytes = [];
  let [held, count] = [0, 0]; // bits not yet written
  let [codes, next, width] = [new Map(), end + 1, BITS + 1];

  function put(code) {
    held |= code << count;
    for (count += width; count >= 8; count -= 8, held >>>= 8) bytes.push(held & 255);
  }

  put(clear);
  let prefix = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const key = (prefix << BITS) | indices[i];
    const known = codes.get(key);
    if (known !== undefined) {
      prefix = known;
      continue;
    }
    put(prefix);
    prefix = indices[i];
    if (next < 4096) {
      codes.set(key, next);
      if (next++ === 1 << width) width++;
    } else {
      put(clear);
      [codes, next, width] = [new Map(), end + 1, BITS + 1];
    }
  }
  put(prefix);
  put(end);
  if (count) bytes.push(held & 255);
  const blocks = [BITS];
  for (let i = 0; i < bytes.length; i += 255) {
    const block = bytes.slice(i, i + 255);
    blocks.push(block.length, ...block);
  }
  return [...blocks, 0];
}

/** The smallest box of what differs, [left, top, width, height], or null. */
function difference(before, now, width) {
  let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
  for (let i = 0; i < now.length; i++) {
    if (before[i] === now[i]) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  return right < 0 ? null : [left, top, right - left + 1, bottom - top + 1];
}

function draw(context, figure, x, y, size) {
  const svg = figure.querySelector("svg");
  const [left, top, side] = svg.getAttribute("viewBox").split(" ").map(Number);
  const scale = size / side;
  context.setTransform(scale, 0, 0, scale, x - left * scale, y - top * scale);
  Object.assign(context, { lineCap: "round", lineJoin: "round" });
  context.lineWidth = parseFloat(svg.style.strokeWidth);
  for (const path of svg.querySelectorAll(".doodle-ink, .doodle-fresh")) {
    context.strokeStyle = `rgb(${COLORS[path.getAttribute("class")]})`;
    context.stroke(new Path2D(path.getAttribute("d") ?? ""));
  }
  const pen = svg.querySelector("circle.doodle-pen");
  if (!pen) return;
  const [cx, cy, r] = ["cx", "cy", "r"].map((name) => Number(pen.getAttribute(name)));
  context.fillStyle = `rgb(${COLORS.pen})`;
  context.beginPath();
  context.arc(cx, cy, r, 0, 7);
  context.fill();
}

/**
 * The bytes of an endless GIF. Each panel is a figure with an svg (its paths of the classes
 * doodle-ink and doodle-fresh, a circle doodle-pen) and a function that paints it at a time, ms.
 */
export async function toGIF(panels, { total, columns = 6, size = 200 }) {
  const [width, height] = [
    Math.min(columns, panels.length) * size,
    Math.ceil(panels.length / columns) * size,
  ];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const step = Math.max(FRAME, Math.ceil(total / MOST / 10) * 10);
  const frames = []; // [box, indices, ms]
  let before = new Uint8Array(0);
  for (let at = 0; ; at += step) {
    const time = Math.min(at, total);
    context.resetTransform();
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    panels.forEach(({ figure, paint }, i) => {
      paint(time);
      draw(context, figure, (i % columns) * size, Math.floor(i / columns) * size, size);
    });
    const { data } = context.getImageData(0, 0, width, height);
    const now = new Uint8Array(width * height);
    for (let i = 0; i < now.length; i++) {
      now[i] = indexOf(data[4 * i], data[4 * i + 1], data[4 * i + 2]);
    }
    const box = before.length ? difference(before, now, width) : [0, 0, width, height];
    if (box) {
      const [left, top, w, h] = box;
      const rows = Array.from({ length: h }, (_, y) => (top + y) * width + left);
      const indices = new Uint8Array(w * h);
      rows.forEach((from, y) => indices.set(now.subarray(from, from + w), y * w));
      frames.push([box, indices, 0]);
      before = now;
    }
    frames.at(-1)[2] += Math.min(step, total - time);
    if (time === total) break;
    if (at % (20 * step) === 0) await new Promise((done) => setTimeout(done)); // the page lives on
  }
  frames.at(-1)[2] += HOLD;
  const chunks = [
    [...new TextEncoder().encode("GIF89a"), ...word(width), ...word(height), 0xf0 | (BITS - 1), 0, 0],
    PALETTE.flat(),
    [0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0],
  ];
  let [shown, written] = [0, 0]; // ms and hundredths of a second, so that rounding does not add up
  for (const [[left, top, w, h], indices, ms] of frames) {
    shown += ms;
    const delay = Math.max(2, Math.round(shown / 10) - written);
    written += delay;
    chunks.push([0x21, 0xf9, 4, 0x04, ...word(delay), 0, 0]);
    chunks.push([0x2c, ...word(left), ...word(top), ...word(w), ...word(h), 0]);
    chunks.push(compressed(indices));
  }
  chunks.push([0x3b]);
  return new Blob(chunks.map((bytes) => new Uint8Array(bytes)), { type: "image/gif" });
}
