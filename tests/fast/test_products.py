"""Products by oneDNN against PyTorch's, whether it is there or not."""

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from doodlelib.fast import products
from doodlelib.fast.products import LaidOut, few_sizes, has_bfloat16, linear, outer_sum

ERROR = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}


@pytest.fixture(params=["oneDNN", "AVX2", "none", "broken"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With it; for few rows alone; with it switched off; with a PyTorch that has no such functions.

    Whether the processor here would take it for many rows, too, does not matter.
    """
    capability = "AVX2" if request.param == "AVX2" else "AVX512"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    if request.param == "broken":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    products.multiplies.cache_clear()
    with torch.backends.mkldnn.flags(enabled=request.param != "none"):
        yield request.param
    products.multiplies.cache_clear()


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("rows", [1, 2, 50, 1200])
@torch.no_grad()
def test_they_are_pytorchs(backend: str, dtype: torch.dtype, rows: int) -> None:
    if backend in ("oneDNN", "AVX2") and dtype == torch.float32:
        assert products._in_onednn(dtype) == torch.backends.mkldnn.is_available()
    in_pieces = backend == "oneDNN" and products._in_onednn(dtype)
    assert products._in_pieces(torch.ones(1, dtype=dtype)) == in_pieces
    x, weight, plus = (torch.randn(*size).to(dtype) for size in ((rows, 7), (12, 7), (rows, 12)))
    bias = torch.randn(12).to(dtype)
    x = x.t().contiguous().t()  # columns behind one another
    wide = [value.double() for value in (x, weight, bias)]
    without, wanted = F.linear(*wide[:2]), F.linear(*wide)
    laid_out = LaidOut(weight, bias, most=rows)
    for got, correct in (
        (linear(x, weight), without),
        (linear(x.expand(3, -1, -1), weight)[1], without),
        (LaidOut(weight, most=rows).times(x), without),
        (laid_out.times(x), wanted),
        (laid_out.times(x, plus=plus), wanted + plus.double()),
    ):
        assert got.dtype == dtype
        worst = ERROR[dtype] * float(correct.abs().max())
        torch.testing.assert_close(got.double(), correct, rtol=0, atol=worst)


@pytest.mark.filterwarnings("ignore:TF32 acceleration:UserWarning")
@pytest.mark.parametrize("dtype", list(ERROR))
@pytest.mark.parametrize("rows", [1, 128, 700])
@torch.no_grad()
def test_outer_products_are_summed(backend: str, dtype: torch.dtype, rows: int) -> None:
    torch.manual_seed(rows)
    x, y = torch.randn(rows, 7).to(dtype), torch.randn(rows, 12).to(dtype)
    got, correct = outer_sum(x, y), x.double().t() @ y.double()
    assert got.dtype in (dtype, torch.float32)
    worst = ERROR[dtype] * float(correct.abs().max()) * max(1, math.sqrt(rows) / 8)
    torch.testing.assert_close(got.double(), correct, rtol=0, atol=worst)


@torch.no_grad()
def test_products_of_many_rows_have_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = set()

    def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        sizes.add((x.shape, weight.shape))
        return F.linear(x, weight)

    monkeypatch.setattr(products, "_in_pieces", lambda like: True)
    monkeypatch.setattr(products, "_by_onednn", product)
    for rows in range(1, 3000, 7):
        linear(torch.randn(rows, 3), torch.randn(4, 3))
        outer_sum(torch.randn(rows, 3), torch.randn(rows, 4))
    assert len(sizes) == 4


def test_few_sizes_are_not_much_larger() -> None:
    sizes = [few_sizes(rows) for rows in range(1, 1025)]
    assert all(rows <= size <= 1.125 * rows for rows, size in enumerate(sizes, start=1))
    assert sizes[:16] == list(range(1, 17))
    assert len(set(sizes)) == 64


@pytest.mark.parametrize(
    ("able", "fast"),
    [
        ({}, False),
        ({"avx512_f": True}, False),
        *(({name: True}, True) for name in ("avx512_bf16", "amx_bf16", "bf16")),
    ],
)
def test_bfloat16_is_fast_where_there_are_instructions(
    monkeypatch: pytest.MonkeyPatch, able: dict, fast: bool
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(products, "multiplies", lambda dtype: True)
    assert has_bfloat16(cpu) == fast
    assert not has_bfloat16(torch.device("meta"))
    monkeypatch.setattr(products, "multiplies", lambda dtype: False)
    assert not has_bfloat16(cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_bfloat16(cpu)
    monkeypatch.setattr(products, "multiplies", lambda dtype: True)
    assert has_bfloat16(cpu)
