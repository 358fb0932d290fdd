// Drawings in the 255 box with fewer points, as `simplify.py` makes them for the network.

const BOX = 255;

/** What moves and scales a drawing into the box: [x, y] of the box's corner, and the factor. */
export function boxOf(drawing) {
  const [x, y] = [0, 1].map((axis) => drawing.flatMap((stroke) => [...stroke[axis]]));
  const corner = [Math.min(...x), Math.min(...y)];
  const extent = Math.max(Math.max(...x) - corner[0], Math.max(...y) - corner[1]);
  return { corner, factor: extent > 0 ? BOX / extent : 1 };
}

/** The drawing in its box. */
export function toBox(drawing, { corner, factor } = boxOf(drawing)) {
  const moved = (values, axis) => [...values].map((value) => (value - corner[axis]) * factor);
  return drawing.map(([x, y, t]) => [moved(x, 0), moved(y, 1), [...t]]);
}

/** Places of the points of a stroke that stay: Ramer-Douglas-Peucker, and by time as well. */
function kept([x, y, t], { method, epsilon, epsilon_time: epsilonTime }) {
  const latest = method === "timed" ? epsilonTime : Infinity;
  const places = new Set([0, x.length - 1]);
  const chords = [[0, x.length - 1]];
  while (chords.length) {
    const [first, last] = chords.pop();
    const [dx, dy, dt] = [x, y, t].map((values) => values[last] - values[first]);
    const length = Math.hypot(dx, dy);
    let [far, late, farthest, slowest] = [0, 0, first, first];
    for (let i = first + 1; i < last; i++) {
      const [px, py] = [x[i] - x[first], y[i] - y[first]];
      const distance = length > 0 ? Math.abs(dx * py - dy * px) / length : Math.hypot(px, py);
      if (distance > far) [far, farthest] = [distance, i];
      const share = dt > 0 ? (t[i] - t[first]) / dt : 0;
      const behind = dt > 0 ? Math.hypot(px - share * dx, py - share * dy) : 0;
      if (behind > late) [late, slowest] = [behind, i];
    }
    if (far <= epsilon && late <= latest) continue;
    const split = far > 0 && far / epsilon >= late / latest ? farthest : slowest;
    places.add(split);
    chords.push([first, split], [split, last]);
  }
  return [...places].sort((a, b) => a - b);
}

/** A drawing in its box, with the points that `simplification`, the model's, keeps. */
export function simplify(drawing, simplification) {
  return toBox(drawing).map((stroke) => {
    const places = kept(stroke, simplification);
    return stroke.map((values) => places.map((i) => values[i]));
  });
}
