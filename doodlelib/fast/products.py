"""Matrix products of rows with weights on a processor, outside autograd, by oneDNN where it can.

`torch.mm` gives float32 to MKL, which lays the weights out anew at every product: most of the work
where there are few rows, and with AVX-512 slower on AMD's processors even where there are many.
oneDNN, which PyTorch brings along, takes weights that were laid out once. It is what
`torch.compile` calls for linear layers; by the same names, since PyTorch has no public ones.

M row, K number in, N number out.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def linear(x: Float[Tensor, "*rows K"], weight: Float[Tensor, "N K"]) -> Float[Tensor, "*rows N"]:
    """What `torch.nn.functional.linear` gives; on any device."""
    if not _in_pieces(weight):
        return F.linear(x, weight)
    rows = x.flatten(0, -2)
    out = x.new_empty(len(rows), len(weight))
    for own, size in _pieces(len(rows)):
        out[own] = _by_onednn(_padded(rows[own], size), weight)[: own.stop - own.start]
    return out.unflatten(0, x.shape[:-1])


def outer_sum(x: Float[Tensor, "M K"], y: Float[Tensor, "M N"]) -> Float[Tensor, "K N"]:
    """``x.T @ y``, the sum of the rows' outer products; on any device.

    Of bfloat16 the sum may come in float32, of terms that are rounded.
    """
    if not _in_pieces(y):
        return F.linear(x.t(), y.t())
    total = y.new_zeros(x.shape[1], y.shape[1], dtype=torch.float32)
    for own, size in _pieces(len(x)):
        total += _by_onednn(_padded(x[own], size).t(), _padded(y[own], size).t())
    return total


def _in_pieces(like: Tensor) -> bool:
    """Whether products of many rows are oneDNN's here: where that was measured to be faster.

    With AVX2 alone MKL is (by 4 % of a training step).
    """
    if like.device.type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return _in_onednn(like.dtype)


def _pieces(rows: int) -> Iterator[tuple[slice, int]]:
    """All `rows` in pieces of two sizes, and the size of each, which the last may not reach.

    What oneDNN prepares for a number of rows takes half a megabyte, and it keeps the last 1,024 of
    them. A training whose batches have any number of points would fill half a gigabyte so, and
    leave gaps as large between them that the system does not get back.
    """
    first = 0
    while first < rows:
        size = 512 if rows - first >= 512 else 128
        yield slice(first, min(first + size, rows)), size
        first += size


def _padded(x: Float[Tensor, "M K"], rows: int) -> Float[Tensor, "rows K"]:
    return x if len(x) == rows else F.pad(x, (0, 0, 0, rows - len(x)))


def _by_onednn(x: Float[Tensor, "M K"], weight: Float[Tensor, "N K"]) -> Float[Tensor, "M N"]:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


class LaidOut:
    """A weight for many products; do not change it meanwhile.

    For every number of rows that oneDNN meets first it takes half a millisecond to prepare; of the
    last 1,024 it remembers how. See `few_sizes`.

    Args:
        weight: On a processor.
        bias: Added to every row.
        most: Rows of a product; for one alone it is not worth while.
    """

    def __init__(
        self,
        weight: Float[Tensor, "N K"],
        bias: Float[Tensor, " N"] | None = None,
        *,
        most: int,
    ) -> None:
        self.bias = None if bias is None else bias.detach()
        self.onednn = _in_onednn(weight.dtype)
        self.weight = weight.detach().contiguous()
        if self.onednn and most > 1:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, most)

    def times(
        self, x: Float[Tensor, "M K"], plus: Float[Tensor, "M N"] | None = None
    ) -> Float[Tensor, "M N"]:
        """``x @ weight.T`` and the bias, and what is to be added to it."""
        if not self.onednn:
            product = F.linear(x, self.weight, self.bias)
            return product if plus is None else product.add_(plus)
        if plus is None:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return torch.ops.mkldnn._linear_pointwise.binary(x, plus, self.weight, self.bias, "add")


def few_sizes(rows: int) -> int:
    """As many or up to an eighth more, so that products over ever fewer rows have few sizes."""
    step = 1 << max(0, rows.bit_length() - 4)
    return -(-rows // step) * step


def _in_onednn(dtype: torch.dtype) -> bool:
    """Whether it is there, is wanted (`torch.backends.mkldnn.flags`) and works."""
    return bool(torch.backends.mkldnn.enabled) and multiplies(dtype)


@lru_cache
def multiplies(dtype: torch.dtype) -> bool:
    """Whether oneDNN has products of that type for this processor; PyTorch's own may be slow."""
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.is_available():
        return False
    one = torch.ones(1, 1, dtype=dtype, device="cpu")
    try:
        weight = torch.ops.mkldnn._reorder_linear_weight(one, 2)
        two = torch.ops.mkldnn._linear_pointwise.binary(one, one, weight, None, "add")
        also = torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], "")
    except (AttributeError, RuntimeError):  # another PyTorch, or a processor it does not know
        return False
    return bool(two == 2 and also == 1)


def has_bfloat16(device: torch.device) -> bool:
    """Whether it has instructions for products of that type, with which training is faster."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not multiplies(torch.bfloat16):
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # an older PyTorch does not tell
        return True
    able = torch.cpu.get_capabilities()
    return any(able.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
