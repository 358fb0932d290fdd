"""The steps of our LSTM on an NVIDIA GPU: what `lstm_torch` says, without its launches.

A step is a matrix product and one kernel, written in Triton, and takes some ten microseconds: less
than Python needs to start either. So stretches of steps are captured as CUDA graphs, of 1, 2, 4,
... steps, of which any number is made up; a stretch reads and writes buffers of its own.

B batch, T step, H hidden; gates are in the order input, forget, candidate, output.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from doodlelib import lstm_torch
from doodlelib.lstm_trace import Affine, Trace, new_trace

engine = lstm_torch
try:
    from doodlelib import lstm_triton as engine
except ModuleNotFoundError as error:  # Triton is not for every system
    if error.name != "triton":
        raise

LONGEST = 32  # steps of a stretch
SHAPES = 8  # whose graphs are kept


def forward(
    projected: Tensor, product: Tensor, affine: Affine, keep: Tensor, trace: Trace, y: Tensor
) -> None:
    """See `lstm_torch.forward`."""
    if _under_capture():
        engine.forward(projected, product, affine, keep, trace, y)
        return
    captured = _captured(product, y, keep, affine)
    captured.take(product, affine)
    for steps in _stretches(len(projected)):
        captured.forward(projected[steps], keep[steps], trace.part(steps), y[steps])


def backward(
    dy: Tensor,
    dh: Tensor,
    dc: Tensor,
    product: Tensor,
    affine: Affine,
    keep: Tensor,
    trace: Trace,
    d_gates: Tensor,
    d_affine: Affine,
) -> None:
    """See `lstm_torch.backward`."""
    if _under_capture():
        engine.backward(dy, dh, dc, product, affine, keep, trace, d_gates, d_affine)
        return
    captured = _captured(product, dc, keep, affine)
    captured.take(product, affine)
    _copy([captured.dh, captured.dc, *captured.d_affine], [dh, dc, *d_affine])
    for steps in reversed(list(_stretches(len(dy)))):
        captured.backward(dy[steps], keep[steps], trace.part(steps), d_gates[steps])
    _copy([dh, dc, *d_affine], [captured.dh, captured.dc, *captured.d_affine])


def _under_capture() -> bool:
    """All of this becomes a part of a larger graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _stretches(steps: int) -> Iterator[slice]:
    """All steps in parts of powers of two."""
    begin = 0
    while begin < steps:
        count = min(LONGEST, 1 << ((steps - begin).bit_length() - 1))
        yield slice(begin, begin + count)
        begin += count


def _copy(into: Sequence[Tensor], out_of: Sequence[Tensor]) -> None:
    """Copy tensors, those of one type at once."""
    for dtype in {one.dtype for one in into}:
        own = [number for number, one in enumerate(into) if one.dtype == dtype and one.numel()]
        torch._foreach_copy_([into[n] for n in own], [out_of[n] for n in own])


class Captured:
    """Graphs of the stretches for one shape of everything, and the buffers that they work on."""

    def __init__(self, product: Tensor, state: Tensor, *, keeps: bool, affine: Affine) -> None:
        """Make the buffers.

        Args:
            product: (4 H, H) weight in the type of the products.
            state: (B, H) of the states' type.
            keeps: There is a factor of the candidate.
            affine: Of the norms.
        """
        like_y = state.new_zeros(LONGEST, *state.shape)
        self.keep = like_y.clone() if keeps else like_y[:0]
        self.y, self.dy = like_y.clone(), like_y.clone()
        self.trace = new_trace(LONGEST, product=product, state=state)
        self.projected = torch.zeros_like(self.trace.gates, dtype=product.dtype)
        self.d_gates = torch.zeros_like(self.projected)
        self.dh, self.dc = torch.zeros_like(self.trace.before[0]), torch.zeros_like(state)
        self.product = torch.zeros_like(product)
        self.affine = Affine(*map(torch.zeros_like, affine))
        self.d_affine = Affine(*map(torch.zeros_like, affine))
        for buffer in self.trace:
            buffer.zero_()
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph]] = {}

    def take(self, product: Tensor, affine: Affine) -> None:
        """The weights to work with."""
        _copy([self.product, *self.affine], [product, *affine])

    def forward(self, projected: Tensor, keep: Tensor, trace: Trace, y: Tensor) -> None:
        """A stretch of steps; arguments as `lstm_torch.forward`."""
        count = len(projected)
        ahead, _ = self._graphs(count)
        own = self.trace.part(slice(0, count))
        _copy(
            [self.projected[:count], self.keep[:count], own.cells[0], own.before[0]],
            [projected, keep, trace.cells[0], trace.before[0]],
        )
        ahead.replay()
        _copy(
            [y, trace.cells[1:], trace.before[1:], trace.gates, trace.rstd],
            [self.y[:count], own.cells[1:], own.before[1:], own.gates, own.rstd],
        )

    def backward(self, dy: Tensor, keep: Tensor, trace: Trace, d_gates: Tensor) -> None:
        """A stretch the other way; arguments as `lstm_torch.backward`, others stay in buffers."""
        count = len(dy)
        _, back = self._graphs(count)
        own = self.trace.part(slice(0, count))
        _copy([self.dy[:count], self.keep[:count], *own], [dy, keep, *trace])
        back.replay()
        d_gates.copy_(self.d_gates[:count])

    def _graphs(self, count: int) -> tuple[torch.cuda.CUDAGraph, torch.cuda.CUDAGraph]:
        if count not in self.graphs:
            steps = slice(0, count)
            trace, keep, y = self.trace.part(steps), self.keep[steps], self.y[steps]
            projected, d_gates, dy = self.projected[steps], self.d_gates[steps], self.dy[steps]

            def ahead() -> None:
                engine.forward(projected, self.product, self.affine, keep, trace, y)

            def back() -> None:
                given = (self.product, self.affine, keep, trace, d_gates, self.d_affine)
                engine.backward(dy, self.dh, self.dc, *given)

            # a gradient may be under way in these buffers
            kept = [one.clone() for one in (self.dh, self.dc, *self.d_affine)]
            self.graphs[count] = _capture(ahead), _capture(back)
            _copy([self.dh, self.dc, *self.d_affine], kept)
        return self.graphs[count]


@lru_cache(maxsize=SHAPES)
def _for_shapes(
    device: torch.device,
    product_type: torch.dtype,
    state_type: torch.dtype,
    batch: int,
    size: int,
    keeps: bool,
    norms: bool,
) -> Captured:
    state = torch.zeros(batch, size, dtype=state_type, device=device)
    product = torch.zeros(4 * size, size, dtype=product_type, device=device)
    sizes = (4 * size, *(count * norms for count in (4 * size, size, size)))
    affine = Affine(*(state.new_zeros(count) for count in sizes))
    return Captured(product, state, keeps=keeps, affine=affine)


def _captured(product: Tensor, states: Tensor, keep: Tensor, affine: Affine) -> Captured:
    """Of the shapes of these; `states` is (..., B, H)."""
    batch, size = states.shape[-2:]
    return _for_shapes(
        product.device,
        product.dtype,
        states.dtype,
        batch,
        size,
        len(keep) > 0,
        len(affine.gain) > 0,
    )


def _capture(work: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """A graph of what `work` does; it is run once before, so that all kernels are there."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph
