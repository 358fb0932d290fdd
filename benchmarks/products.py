"""Products of few rows with an LSTM's weights, by PyTorch and by NumPy's OpenBLAS, on one thread.

    python benchmarks/products.py [--size 768] [--repeats 51] [--rows 1 9 16 64]

`doodlelib.fast` takes NumPy's in float32; this says what that brings on a processor.
"""

import argparse

import numpy as np
import torch
from machine import describe, medians
from threadpoolctl import threadpool_limits


def main() -> None:
    """Print milliseconds of both, and their ratio, for each number of rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=768, help="units; there are four gates")
    parser.add_argument("--repeats", type=int, default=51)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 9, 16, 64])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    weight = torch.randn(options.size, 4 * options.size)
    for rows in options.rows:
        a, out = torch.randn(rows, options.size), torch.empty(rows, 4 * options.size)
        arrays = a.numpy(), weight.numpy(), out.numpy()
        jobs = {
            "PyTorch": lambda a=a, out=out: torch.mm(a, weight, out=out),
            "NumPy": lambda arrays=arrays: np.matmul(arrays[0], arrays[1], out=arrays[2]),
        }
        with threadpool_limits(1, user_api="blas"):
            seconds = medians(jobs, repeats=options.repeats)
        ratio = seconds["PyTorch"] / seconds["NumPy"]
        times = ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in seconds.items())
        print(f"{rows:4} rows: {times}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
