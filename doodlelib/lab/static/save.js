// Drawings as files, made in the page. A drawing is a list of strokes [x, y, t], px and ms.

import { line } from "./dom.js";
import { boxOf } from "./drawing.js";

const NOT_IN_NAMES = /[^\p{L}\p{N}._ -]/gu;

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
const short = (value) => Number(value.toFixed(2));

/** Give the person a file. */
export function download(name, type, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name.replace(NOT_IN_NAMES, "_");
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Put a text on the clipboard, also where the page may not ask for it in the modern way. */
export async function copy(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) throw new Error("the browser does not let this page copy");
}

/** Times that count from the first point. */
function fromZero(drawing) {
  return drawing.map(([x, y, t]) => [x, y, t.map((at) => at - drawing[0][2][0])]);
}

/** A drawing as a picture that plays (SMIL) at the pace of its times, over and over. */
export function toSVG(given, { title = "", place = "" } = {}) {
  const drawing = fromZero(given);
  const [x, y, t] = [0, 1, 2].map((row) => drawing.flatMap((stroke) => stroke[row]));
  const [left, top, width, height] = boxOf(drawing);
  const side = Math.max(width, height) || 1;
  const box = [left - side / 16, top - side / 16, width + side / 8, height + side / 8].map(short);
  const [w, h] = box.slice(2).map((value) => Math.round((value * 255) / Math.max(box[2], box[3])));
  const total = t.at(-1);

  function animate(name, times, values, more = "") {
    const keys = times.map((at) => Number((at / total).toFixed(6))).join(";");
    return (
      `<animate attributeName="${name}" dur="${total}ms" repeatCount="indefinite"${more} ` +
      `keyTimes="${keys}" values="${values.join(";")}"/>`
    );
  }

  const discrete = ' calcMode="discrete"';
  const paths = drawing.map((stroke) => {
    const data = `d="${line(stroke[0].map((px, i) => [short(px), short(stroke[1][i])]))}"`;
    if (!(total > 0)) return `<path ${data}/>`;
    const appear = animate("opacity", [0, stroke[2][0]], [0, 1], discrete);
    let length = 0;
    const lengths = stroke[0].map((px, i) => {
      if (i) length += Math.hypot(px - stroke[0][i - 1], stroke[1][i] - stroke[1][i - 1]);
      return length;
    });
    if (length === 0) return `<path ${data}>${appear}</path>`;
    const hidden = lengths.map((drawn) => Number((1 - drawn / length).toFixed(4)));
    const grow = animate("stroke-dashoffset", [0, ...stroke[2], total], [1, ...hidden, 0]);
    return `<path ${data} pathLength="1" stroke-dasharray="1">${appear}${grow}</path>`;
  });
  if (total > 0) {
    const move = [["cx", x], ["cy", y]].map(([name, values]) =>
      animate(name, [0, ...t], [values[0], ...values].map(short)),
    );
    const show = animate("visibility", [0], ["visible"], discrete);
    const look = `r="${short(side / 45)}" fill="#d55e00" stroke="none" visibility="hidden"`;
    paths.push(`<circle ${look}>${show}${move.join("")}</circle>`);
  }
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${box.join(" ")}" ` +
    `${place || `width="${w}" height="${h}"`} role="img" style="background:#fff">` +
    `${title && `<title>${escaped(title)}</title>`}` +
    `<g fill="none" stroke="#1a1a1a" stroke-width="${short(side / 80)}" ` +
    `stroke-linecap="round" stroke-linejoin="round">${paths.join("")}</g></svg>`
  );
}

/** Several drawings in one picture, each playing over and over by itself. */
export function toSheet(drawings, { titles = [], columns = 6, size = 140 } = {}) {
  if (drawings.length === 1) return toSVG(drawings[0], { title: titles[0] });
  const rows = Math.ceil(drawings.length / columns);
  const cells = drawings.map((drawing, i) => {
    const [x, y] = [(i % columns) * size, Math.floor(i / columns) * size];
    return toSVG(drawing, {
      title: titles[i],
      place: `x="${x}" y="${y}" width="${size}" height="${size}"`,
    });
  });
  const [width, height] = [Math.min(columns, drawings.length) * size, rows * size];
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" ` +
    `height="${height}" style="background:#fff">${cells.join("")}</svg>`
  );
}

/** The finished drawing as a PNG, black on white, `size` px square. */
export function toPNG(strokes, { size = 512 } = {}) {
  const [left, top, width, height] = boxOf(strokes);
  const side = Math.max(width, height) || 1;
  const canvas = Object.assign(document.createElement("canvas"), { width: size, height: size });
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, size, size);
  pen.scale(size / (side * 1.12), size / (side * 1.12));
  pen.translate(side * 0.56 - left - width / 2, side * 0.56 - top - height / 2);
  Object.assign(pen, { strokeStyle: "#1a1a1a", lineCap: "round", lineJoin: "round" });
  pen.lineWidth = side / 80;
  pen.stroke(new Path2D(strokes.map(([x, y]) => line(x.map((px, i) => [px, y[i]]))).join("")));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/**
 * Drawings in the schema of Google's raw files, one a line; `words` has one for each, or one for
 * all; `wait` is the time from when the person was asked to draw to the first point, ms.
 */
export function toNdjson(drawings, words = "doodle", { wait = null, now = new Date() } = {}) {
  const timestamp = now.toISOString().replace("T", " ").replace("Z", "000 UTC");
  const lines = drawings.map((drawing, i) => {
    const record = {
      word: (Array.isArray(words) ? words[i] : words) || "doodle",
      countrycode: "ZZ", // unknown
      timestamp,
      recognized: true,
      key_id: `own-${now.getTime()}${i ? `-${i}` : ""}`,
      drawing: fromZero(drawing),
    };
    return JSON.stringify(wait === null ? record : { ...record, first_point_ms: wait });
  });
  return lines.map((text) => `${text}\n`).join("");
}
