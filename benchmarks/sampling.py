"""Points sampled a second beside the processor's matmul rate, and latency of the shipped model.

    OMP_WAIT_POLICY=passive python benchmarks/sampling.py [--threads 1] [--repeats 5]
        [--layers 2] [--decoder 512] [--latent 128] [--batches 256 1024]

The first part has the decoder of the original's size with layer norm, untrained but for the pen,
which ends a drawing after 48 points in the mean. The floor is the time of its matrix products alone
at the rate of a large one, reached at best where no drawing ends before the others. The same
drawings come from `doodlelib.fast` and from plain PyTorch. The second part is the shipped
model, alone and beside a process that is busy.
"""

import argparse
import math
import os
import subprocess
import sys
from functools import partial

import torch
from machine import describe, matmul, matmul_flop, medians

from doodlelib import jit
from doodlelib.config import VAEConfig, read_config
from doodlelib.models.checkpoint import load_retimer, load_vae
from doodlelib.models.network import NUM_FEATURES, SketchNet
from doodlelib.models.sampling import Decoder, random_numbers, sample
from doodlelib.models.vae import SketchVAE
from doodlelib.strokes import Drawing, Scale

PEN = (0.80, 0.18, 0.02)  # chances of a move drawn, a move lifted, the end
ALONE = 10  # drawings, one at a time
ORIGINAL = 569  # points/s of the original, which draws one at a time (2 cores)


def make_net(options: argparse.Namespace) -> SketchNet:
    """An untrained decoder of this size whose drawings end."""
    config = read_config(
        VAEConfig,
        num_lstm_layers=options.layers,
        dec_hidden_size=options.decoder,
        latent_size=options.latent,
        use_layer_norm=True,
        recurrent_dropout=0.1,
    )
    torch.manual_seed(0)
    net = SketchNet(config, words=["cat"], scale=Scale()).eval()
    with torch.no_grad():
        net.head.bias[:3] = torch.tensor([math.log(share) for share in PEN])
        net.head.weight[:3] *= 0.1
    return net


def flop_per_point(net: SketchNet) -> int:
    """Of the matrix products of one step; the condition's share is computed once a drawing."""
    size, layers = net.config.dec_hidden_size, net.config.num_lstm_layers
    gates = 4 * size * (NUM_FEATURES + size + (layers - 1) * 2 * size)
    return 2 * (gates + size * net.head.out_features)


def points(net: SketchNet, count: int, fast: bool) -> int:
    """Sample `count` drawings in one batch, or some alone; the number of their points."""
    os.environ[jit.SWITCH] = "1" if fast else "0"
    generator = torch.Generator().manual_seed(1)
    drawings = []
    for _ in range(ALONE if count == 1 else 1):
        z = torch.randn(count, net.config.latent_size, generator=generator)
        decoder = Decoder(net, z, torch.zeros(count, dtype=torch.long))
        drawings += sample(decoder, temperature=1.0, time_temperature=1.0, generator=generator)
    os.environ[jit.SWITCH] = "1"
    return sum(len(drawing) - 2 for drawing in drawings)


def report_rates(options: argparse.Namespace) -> None:
    """Points a second of batches and of one drawing alone, both ways.

    Each way has its turn with a floor of its own: of products in many sizes the last 1,024 stay
    prepared (oneDNN), which one way would push out of memory for the next.
    """
    net = make_net(options)
    flop = flop_per_point(net)
    print(f"{flop / 1e6:.1f} MFLOP a point")
    for fast in (True, False):
        jobs = {count: partial(points, net, count, fast) for count in (1, *options.batches)}
        seconds = medians({**jobs, "floor": matmul(torch.float32)}, repeats=options.repeats)
        floor = matmul_flop() / seconds["floor"] / flop
        for count, job in jobs.items():
            rate = job() / seconds[count]
            share = (
                f"{rate / ORIGINAL:.1f} times the original's {ORIGINAL}"
                if count == 1
                else f"{rate / floor:.2f} of the floor, {floor:,.0f}"
            )
            way = "fast   " if fast else "PyTorch"
            print(f"  {count:4} at once, {way} {rate:9,.0f} points/s, {share}")


def first_rows(vae: SketchVAE, begun: Drawing) -> None:
    """Everything that `complete` does up to the first row of ten endings."""
    generator = torch.Generator().manual_seed(1)
    decoder = vae.condition_on_prefix(begun, 10, "cat", generator)
    numbers = random_numbers(decoder, generator)[:, 0]
    decoder.compiled().next_rows(numbers, 0.4, 1.0)


def report_waits(options: argparse.Namespace) -> None:
    """Print the latency of the shipped model."""
    vae = load_vae()
    vae.attach(load_retimer())
    whole = vae.generate(1, word="cat", seed=3)[0]
    begun = whole[: max(1, len(whole) // 2)]
    jobs = {
        "9 doodles": lambda: vae.generate(9, word="cat", seed=1),
        "first rows of 10 endings": lambda: first_rows(vae, begun),
        "10 endings": lambda: vae.complete(begun, word="cat", seed=1),
        "one drawing's times": lambda: vae.retime(whole, seed=1),
    }
    begun_points = sum(len(stroke[0]) for stroke in begun)
    print(
        f"shipped model; the beginning has {begun_points} points, the drawing that is timed "
        f"{sum(len(stroke[0]) for stroke in whole)}"
    )
    alone = medians(jobs, repeats=2 * options.repeats)
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            beside = medians(jobs, repeats=2 * options.repeats)
        finally:
            busy.kill()
    for name in jobs:
        print(f"  {name}: {1000 * alone[name]:.0f} ms, {1000 * beside[name]:.0f} beside a busy one")


def main() -> None:
    """Print both parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--decoder", type=int, default=512)
    parser.add_argument("--latent", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{describe()}, median of {options.repeats}")
    report_rates(options)
    report_waits(options)


if __name__ == "__main__":
    main()
