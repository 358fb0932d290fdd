"""Loops over flat arrays that NumPy has no words for, compiled by Numba."""

import numpy as np

from doodlelib.jit import kernel

_QUOTIENT_IS_EXACT = 2**53  # whole numbers up to it are floats, and one division rounds right
_POWERS_OF_TEN = 10.0 ** np.arange(20)
_MOST_DIGITS = 18  # of a number that an int64 holds
_ZERO, _MINUS, _POINT, _COMMA, _OPEN, _CLOSE = (ord(character) for character in "0-.,[]")
_BRACE, _NEWLINE, _RETURN = (ord(character) for character in "}\n\r")


@kernel
def quotient(digits: int, places: int) -> float:
    """``digits / 10**places``, rounded once, for up to 18 digits.

    Beyond 2**53 the first quotient is corrected by its remainder, which is exact.

    Source: Dekker 1971 (the product of two floats as a sum of two).
    """
    power = _POWERS_OF_TEN[places]
    high = float(digits)
    value = high / power
    if digits > _QUOTIENT_IS_EXACT:
        a = value * 134217729.0  # 2**27 + 1 splits a float into halves
        a = a - (a - value)
        b = power * 134217729.0
        b = b - (b - power)
        a_low, b_low = value - a, power - b
        product = value * power
        error = a_low * b_low - (((product - a * b) - a_low * b) - a * b_low)
        value += (((high - product) - error) + float(digits - np.int64(high))) / power
    return value


@kernel
def scan(text, starts, points, stroke_sizes, stroke_counts):
    """Read the arrays of numbers that begin at `starts` in `text`, as raw JSON has them.

    Accepts less than JSON: ``[[[x,…],[y,…],[t,…]],…]}`` in decimals of up to 18 digits without
    blanks or exponents, rows of a stroke equally long and not empty, then the line's end. Anything
    else is not judged here: the line gets no strokes.

    Args:
        text: (bytes) uint8, every line ended by a newline.
        starts: (lines) where the drawing of each line begins.
        points: (3, room) receives x, y, t; t is NaN where there are two rows.
        stroke_sizes: (room) receives the points of each stroke.
        stroke_counts: (lines) receives the strokes of each line; 0 where it is unusual.

    Returns:
        Points and strokes that were written.
    """
    n_points, n_strokes = 0, 0
    for line in range(len(starts)):
        at = starts[line]
        point, stroke, width = n_points, n_strokes, 0
        usual = text[at] == _OPEN
        depth = 1  # brackets that are open
        row, begin = 0, point
        while usual and depth:
            at += 1
            if depth < 3:  # before a stroke or a row
                usual = text[at] == _OPEN
                depth += 1
                if depth == 2:
                    row, begin = -1, point
                else:
                    row += 1
                    usual &= row < 3
                    point = begin
                continue
            negative = text[at] == _MINUS
            at += negative
            first, digits, places = at, 0, 0
            while _ZERO <= text[at] < _ZERO + 10:
                digits = digits * 10 + (text[at] - _ZERO)
                at += 1
            length = at - first
            usual = length > 0 and (length == 1 or text[first] != _ZERO)
            if text[at] == _POINT:
                at += 1
                while _ZERO <= text[at] < _ZERO + 10:
                    digits = digits * 10 + (text[at] - _ZERO)
                    at += 1
                    places += 1
                length += places
                usual &= places > 0
            if not usual or length > _MOST_DIGITS:
                usual = False
                break
            value = quotient(digits, places)
            points[row, point] = -value if negative else value
            point += 1
            if text[at] == _COMMA:
                continue
            usual = text[at] == _CLOSE
            if row == 0:
                size = point - begin
            usual &= point - begin == size
            depth = 2
            at += 1
            if text[at] == _COMMA:
                continue
            usual &= text[at] == _CLOSE and row > 0 and (width == 0 or width == row + 1)
            width = row + 1
            if row == 1:
                points[2, begin:point] = np.nan
            stroke_sizes[stroke] = size
            stroke += 1
            depth = 1
            at += 1
            if text[at] == _COMMA:
                continue
            usual &= text[at] == _CLOSE
            depth = 0
        at += 1
        if usual and text[at] == _BRACE:
            at += 1
            at += text[at] == _RETURN
            if text[at] == _NEWLINE:
                stroke_counts[line] = stroke - n_strokes
                n_points, n_strokes = point, stroke
    return n_points, n_strokes


@kernel
def inspect(points, offsets, most, largest):
    """What is wrong with each drawing: 0 nothing, 1 too few points, 2 too many, 3 a number, 4 time.

    Args:
        points: (3, n) x, y, t.
        offsets: (drawings + 1) where each drawing's points begin.
        most: Points that a drawing may have.
        largest: Magnitude that a number may have.

    Returns:
        (drawings) uint8.
    """
    faults = np.zeros(len(offsets) - 1, np.uint8)
    for drawing in range(len(faults)):
        first, last = offsets[drawing], offsets[drawing + 1]
        timed = not np.isnan(points[2, first])
        if last - first < 2:
            faults[drawing] = 1
        elif last - first > most:
            faults[drawing] = 2
        else:
            for point in range(first, last):
                for row in range(3 if timed else 2):
                    if not abs(points[row, point]) <= largest:
                        faults[drawing] = 3
                if timed and point > first and points[2, point] < points[2, point - 1]:
                    faults[drawing] = max(4 * (faults[drawing] == 0), faults[drawing])
    return faults


@kernel
def take(points, strokes, drawings, indices):
    """The drawings at `indices`, one after the other.

    Args:
        points: (3, n) x, y, t.
        strokes: (strokes + 1) where each stroke's points begin.
        drawings: (drawings + 1) where each drawing's strokes begin.
        indices: Of drawings.

    Returns:
        Their points (3, m), the points of each stroke, the strokes of each drawing.
    """
    first, last = drawings[:-1][indices], drawings[1:][indices]
    counts = last - first
    taken = np.empty((3, (strokes[last] - strokes[first]).sum()))
    sizes = np.empty(counts.sum(), np.int64)
    point, stroke = 0, 0
    for drawing in range(len(indices)):
        begin, end = strokes[first[drawing]], strokes[last[drawing]]
        taken[:, point : point + end - begin] = points[:, begin:end]
        point += end - begin
        for source in range(first[drawing], last[drawing]):
            sizes[stroke] = strokes[source + 1] - strokes[source]
            stroke += 1
    return taken, sizes, counts


@kernel
def to_box(points, offsets, size):
    """`strokes.to_box` of each drawing: the same numbers, (3, n) x, y, t."""
    boxed = points.copy()
    for drawing in range(len(offsets) - 1):
        part = boxed[:, offsets[drawing] : offsets[drawing + 1]]
        x_low, y_low = part[0].min(), part[1].min()
        extent = max(part[0].max() - x_low, part[1].max() - y_low)
        factor = size / extent if extent > 1e-300 else 1.0  # below, the quotient overflows
        for point in range(part.shape[1]):
            part[0, point] = (part[0, point] - x_low) * factor
            part[1, point] = (part[1, point] - y_low) * factor
    return boxed


@kernel
def norm(vector):
    """`numpy.linalg.norm` of two numbers to the last bit: of the same BLAS, which may fuse them."""
    return np.sqrt(np.dot(vector, vector))


@kernel
def keep(points, strokes, epsilon, epsilon_time):
    """Which points each stroke keeps; see `simplify.simplify`.

    Args:
        points: (3, n) x, y, t; a t of NaN leaves the distance in time out.
        strokes: (strokes + 1) where each stroke's points begin.
        epsilon: Largest distance to the chord, px.
        epsilon_time: Largest distance to where the chord is at the same instant; inf: any.

    Returns:
        (n) bool.
    """
    xs, ys, ts = points
    kept = np.zeros(points.shape[1], np.bool_)
    longest = 1
    for stroke in range(len(strokes) - 1):
        longest = max(longest, strokes[stroke + 1] - strokes[stroke])
    stack = np.empty((longest + 1, 2), np.int64)
    chord, step = np.empty(2), np.empty(2)
    for stroke in range(len(strokes) - 1):
        stack[0, 0], stack[0, 1] = strokes[stroke], strokes[stroke + 1] - 1
        kept[stack[0, 0]] = kept[stack[0, 1]] = True
        depth = 1
        while depth:
            depth -= 1
            first, last = stack[depth]
            x, y, t = xs[first], ys[first], ts[first]
            chord_x, chord_y, chord_t = xs[last] - x, ys[last] - y, ts[last] - t
            chord[0], chord[1] = chord_x, chord_y
            length = norm(chord)
            pace_x, pace_y = chord_x / chord_t, chord_y / chord_t
            far = area = late = 0.0
            farthest = latest = first
            for point in range(first + 1, last):
                dx, dy = xs[point] - x, ys[point] - y
                if length > 0:
                    cross = abs(chord_x * dy - chord_y * dx)
                    if cross > area:  # divides seldom, and rounds as the package does
                        area = cross
                        if cross / length > far:
                            far, farthest = cross / length, point
                else:
                    step[0], step[1] = dx, dy
                    distance = norm(step)
                    if distance > far:
                        far, farthest = distance, point
                if chord_t > 0:
                    dt = ts[point] - t
                    dx, dy = dx - dt * pace_x, dy - dt * pace_y
                    if dx * dx + dy * dy > late:
                        late, latest = dx * dx + dy * dy, point
            late = np.sqrt(late)
            if far > epsilon or late > epsilon_time:
                shape_first = far > 0 and far * epsilon_time >= late * epsilon
                split = farthest if shape_first else latest
                kept[split] = True
                stack[depth, 0], stack[depth, 1] = first, split
                stack[depth + 1, 0], stack[depth + 1, 1] = split, last
                depth += 2
    return kept
