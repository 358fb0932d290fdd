"""A drawing's next row from the head's output, compiled by Numba, as `mdn` and `inputs` say it.

B drawing, M mixture component.
"""

import math

import numpy as np

from doodlelib.fast.lstm_step import write
from doodlelib.jit import kernel
from doodlelib.models.mdn import LEAST_SQUARE, MAX_LOG, MAX_RHO, MAX_TIME, PARAMETERS
from doodlelib.models.network import NUM_FEATURES, PEN_STATES
from doodlelib.strokes import DT, END, PEN_COLUMNS, PEN_UP

_PEN = PEN_COLUMNS.start


@kernel
def draw(
    rows,
    output,
    numbers,
    which,
    position,
    begun,
    read,
    temperature,
    time_temperature,
    reg_covar,
    per_box,
):
    """Draw each drawing's next row, and what the decoder then reads, as `mdn` and `inputs` do.

    Args:
        rows: (B, 6) gets the rows. The others may have more.
        output: (B, 3 + 2 M 9) of the head.
        numbers: (M, 6), see `steps.Steps.next`.
        which: (B) of the numbers each drawing takes.
        position: (B, 2) of the pen; moved along.
        begun: (B, 2) of the first point of its stroke; likewise.
        read: (B, ≥ NUM_FEATURES) of the layer's products' type; gets what the decoder reads next,
            but for the flag between row and place, which stays.
        temperature: Of pen and position.
        time_temperature: Of the time.
        reg_covar: See `mdn.from_output`.
        per_box: Halves of the box in one unit.
    """
    modes = (output.shape[1] - PEN_STATES) // (2 * PARAMETERS)
    weights, room = np.empty(modes, output.dtype), np.empty(max(modes, PEN_STATES), output.dtype)
    spread, time_spread = math.sqrt(temperature), math.sqrt(time_temperature)
    wide, place = np.empty(rows.shape[1], np.int32), np.empty(4, output.dtype)
    shared = wide.view(np.float32)
    for b in range(len(rows)):
        chance, noise = numbers[which[b], :3], numbers[which[b], 3:]
        event = _choose(output[b, :PEN_STATES], temperature, chance[0], room)
        rows[b] = 0
        rows[b, _PEN + event] = 1
        if event == END:
            continue
        first = PEN_STATES + modes * PARAMETERS * (event == PEN_UP)
        modes_of = output[b, first : first + modes * PARAMETERS].reshape(modes, PARAMETERS)
        for m in range(modes):
            weights[m] = modes_of[m, 0]
        own = modes_of[_choose(weights, temperature, chance[1], room)]
        std_x, std_y, rho = _spread(own, reg_covar)
        across = rho * noise[0] + math.sqrt(1 - rho**2) * noise[1]
        dx = own[1] + std_x * spread * noise[0]
        dy = own[2] + std_y * spread * across
        for m in range(modes):
            std_x, std_y, rho = _spread(modes_of[m], reg_covar)
            zx, zy = (dx - modes_of[m, 1]) / std_x, (dy - modes_of[m, 2]) / std_y
            rest = 1 - rho**2
            weights[m] -= (zx**2 + zy**2 - 2 * rho * zx * zy) / (2 * rest) + math.log(
                std_x * std_y * math.sqrt(rest)
            )
        own = modes_of[_choose(weights, time_temperature, chance[2], room)]
        std = math.sqrt(math.exp(2 * _clamped(own[8], MAX_LOG)) + reg_covar)
        mean = own[6] + own[7] * 0.5 * math.log(dx**2 + dy**2 + LEAST_SQUARE)
        time = _clamped(mean + std * time_spread * noise[2], MAX_TIME)

        rows[b, 0], rows[b, 1], rows[b, DT] = dx, dy, time
        position[b, 0] += rows[b, 0]
        position[b, 1] += rows[b, 1]
        if event == PEN_UP:
            begun[b] = position[b]
        place[:2] = position[b] * per_box
        place[2:] = (position[b] - begun[b]) * per_box
        write(rows[b], wide, shared, read[b][: len(rows[b])])
        write(place, wide, shared, read[b][NUM_FEATURES - len(place) : NUM_FEATURES])


@kernel
def _choose(logits, temperature, chance, room):
    """See `mdn.choose`; `room` is for the sums of the weights."""
    best = np.argmax(logits)
    if temperature == 0:
        return best
    total = logits.dtype.type(0)
    for m in range(len(logits)):
        total += math.exp((logits[m] - logits[best]) / temperature)
        room[m] = total
    for m in range(len(logits)):
        if room[m] > chance * total:
            return m
    return len(logits) - 1


@kernel
def _spread(values, reg_covar):
    """Standard deviations of dx and dy, and rho, of a component; see `mdn.from_output`."""
    raw_x, raw_y = math.exp(_clamped(values[3], MAX_LOG)), math.exp(_clamped(values[4], MAX_LOG))
    std_x, std_y = math.sqrt(raw_x**2 + reg_covar), math.sqrt(raw_y**2 + reg_covar)
    return std_x, std_y, math.tanh(values[5]) * MAX_RHO * raw_x * raw_y / (std_x * std_y)


@kernel
def _clamped(value, most):
    return min(max(value, -most), most)
