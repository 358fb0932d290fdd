// Smooth curves through the points of a drawing, with its corners: centripetal Catmull-Rom splines
// that stay near their chords. The rule and its reasons are those of `doodlelib/viz/curves.py`.

const BOX = 255; // px
const CORNER = 70; // degrees; a turn that is sharper stays so
const BULGE = 3 / BOX; // of a drawing's side: how far a curve may be from its chord
const FLAT = 0.05 / BOX; // of a drawing's side: how far from its curve a line may be

const add = ([ax, ay], [bx, by], factor = 1) => [ax + factor * bx, ay + factor * by];
const scaled = ([x, y], factor) => [x * factor, y * factor];
const dot = ([ax, ay], [bx, by]) => ax * bx + ay * by;

/** Distance of a vector from the line along `chord`. */
function off([x, y], chord) {
  return Math.abs(x * chord[1] - y * chord[0]) / Math.max(Math.hypot(...chord), 1e-300);
}

/** The larger side of the box around a drawing. */
function extent(drawing) {
  const sides = [0, 1].map((axis) => {
    const all = drawing.flatMap((stroke) => stroke[axis]);
    return all.reduce((a, b) => Math.max(a, b)) - all.reduce((a, b) => Math.min(a, b));
  });
  return Math.max(...sides);
}

/** Both control points of the Bezier curve from each of the points to the next. */
function handles(points, reach) {
  const chords = points.slice(1).map((point, i) => add(point, points[i], -1));
  const knots = chords.map((chord) => Math.sqrt(Math.hypot(...chord)));
  const speeds = chords.map((chord, i) => scaled(chord, 1 / (knots[i] || 1)));
  const limit = Math.cos((CORNER * Math.PI) / 180);
  const inner = speeds.slice(1).map((after, i) => {
    const [before, first, second] = [speeds[i], knots[i], knots[i + 1]];
    if (dot(before, after) <= limit * first * second) return null; // a corner, or the pen's rest
    return scaled(add(scaled(before, second), after, first), 1 / (first + second));
  });
  return chords.map((chord, i) => {
    const known = [inner[i - 1], inner[i]];
    const ends = known.map((own, side) => {
      const end = own ?? add(scaled(speeds[i], 2), known[1 - side] ?? speeds[i], -1); // a parabola's
      const handle = scaled(end, knots[i] / 3);
      const bulge = off(handle, chord);
      return scaled(handle, Math.min(1, reach / (bulge || 1)));
    });
    return [add(points[i], ends[0]), add(points[i + 1], ends[1], -1)];
  });
}

/** A drawing, strokes [x, y, t] or [x, y], with points of its curves between its own. */
export function curved(drawing) {
  if (drawing.length === 0) return [];
  const side = extent(drawing);
  return drawing.map((stroke) => {
    const rows = stroke[0].map((_, i) => stroke.map((values) => values[i]));
    const made = [rows[0]];
    handles(rows.map((row) => row.slice(0, 2)), (4 / 3) * BULGE * side).forEach((inner, i) => {
      const [start, end] = [rows[i], rows[i + 1]];
      const chord = add(end, start, -1);
      const bulge = Math.max(...inner.map((control) => off(add(control, start, -1), chord)));
      const count = Math.max(1, Math.ceil(Math.sqrt((0.75 * bulge) / (FLAT * side || 1))));
      const between = Array.from({ length: count - 1 }, (_, k) => {
        const u = (k + 1) / count;
        const weights = [(1 - u) ** 3, 3 * u * (1 - u) ** 2, 3 * u * u * (1 - u), u ** 3];
        const controls = [start, ...inner, end];
        return [0, 1].map((axis) => weights.reduce((sum, w, j) => sum + w * controls[j][axis], 0));
      });
      const all = [start, ...between, end];
      let way = 0;
      const ways = all.slice(1).map((point, k) => (way += Math.hypot(...add(point, all[k], -1))));
      between.forEach((point, k) => {
        const share = ways[k] / (way || 1);
        made.push([...point, ...start.slice(2).map((t, j) => t + share * (end[2 + j] - t))]);
      });
      made.push(end);
    });
    return stroke.map((_, axis) => made.map((row) => row[axis]));
  });
}
