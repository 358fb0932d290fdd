"""Training steps of the VAE: useful drawings a second, beside what the processor's matmul can do.

    OMP_WAIT_POLICY=passive python benchmarks/train_step.py STORE [--threads 2] [--repeats 5]
        [--layers 2] [--encoder 256] [--decoder 512] [--latent 128]

The default sizes are those of the original (2 layers, 256, 512, 128, 20 modes, batches of 100).
"useful" counts the matrix products of real points alone, forwards and twice backwards: a share of
the measured matmul rate, 1 being the floor of time.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from doodlelib.batches import StrokeBatch, StrokeBatches
from doodlelib.config import VAEConfig, read_config
from doodlelib.dataset import load_split
from doodlelib.inputs import INPUTS
from doodlelib.vae import SketchVAE

BATCHES = 6
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def matmul_rate(dtype: torch.dtype, *, repeats: int) -> float:
    """FLOP/s of a square product, the best of some."""
    a, b = torch.randn(2, 1536, 1536).to(dtype)
    seconds = []
    for _ in range(3 * repeats):
        begin = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begin)
    return 2 * 1536**3 / min(seconds)


def useful_flop(vae: SketchVAE, batches: list[StrokeBatch]) -> float:
    """Of the matrix products over real points, forwards and backwards."""
    config, modes = vae.config, vae.head.out_features
    enc, dec, layers = config.enc_hidden_size, config.dec_hidden_size, config.num_lstm_layers
    condition = config.latent_size + vae.word_size
    encoder = sum(
        2 * 4 * enc * ((INPUTS if layer == 0 else 2 * enc) + enc) for layer in range(layers)
    )
    decoder = sum(
        4 * dec * ((INPUTS + condition if layer == 0 else dec) + dec) for layer in range(layers)
    )
    points = sum(int(batch.lengths.sum()) for batch in batches)
    return 3 * 2 * points * (encoder + decoder + dec * modes)


def step(vae: SketchVAE, optimizer: torch.optim.Optimizer, batch: StrokeBatch, half: bool) -> None:
    """One step, as `train.fit` makes it."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss, _ = vae.loss(batch, step=0)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), vae.config.grad_clip)
    optimizer.step()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--encoder", type=int, default=256)
    parser.add_argument("--decoder", type=int, default=512)
    parser.add_argument("--latent", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = load_split(options.store, "train")
    epoch = StrokeBatches(split, batch_size=100, max_seq_len=200, seed=0)
    batches = [epoch[i] for i in range(BATCHES)]
    drawings = sum(batch.size for batch in batches)
    print(f"torch {torch.__version__}, {options.threads} threads, median of {options.repeats}")
    print(
        f"{drawings} drawings, {sum(int(b.lengths.sum()) for b in batches) / drawings:.1f} points"
    )
    jobs = {}
    for layer_norm in (True, False):
        config = read_config(
            VAEConfig,
            num_lstm_layers=options.layers,
            enc_hidden_size=options.encoder,
            dec_hidden_size=options.decoder,
            latent_size=options.latent,
            use_layer_norm=layer_norm,
            recurrent_dropout=0.1 * layer_norm,
        )
        for precision in PRECISIONS:
            torch.manual_seed(0)
            vae = SketchVAE(config, words=split.classes, scale=split.scale, simplification={})
            jobs[layer_norm, precision] = (vae.train(), vae.make_optimizer(), [])
    for repeat in range(options.repeats + 1):  # the first to warm up
        for (_, precision), (vae, optimizer, seconds) in jobs.items():
            begin = time.perf_counter()
            for batch in batches:
                step(vae, optimizer, batch, precision == "bfloat16")
            if repeat:
                seconds.append(time.perf_counter() - begin)
    for precision, dtype in PRECISIONS.items():
        rate = matmul_rate(dtype, repeats=options.repeats)
        plain = statistics.median(jobs[False, precision][2])
        print(f"{precision}: matmul {rate / 1e9:.0f} GFLOP/s")
        for layer_norm in (True, False):
            vae, _, seconds = jobs[layer_norm, precision]
            median = statistics.median(seconds)
            share = useful_flop(vae, batches) / median / rate
            name = "layer norm, recurrent dropout" if layer_norm else "plain"
            print(
                f"  {name:30} {drawings / median:7.1f} drawings/s, {plain / median:.2f} of plain, "
                f"useful matmul at {share:.2f} of the floor's rate"
            )


if __name__ == "__main__":
    main()
