"""Training steps of the VAE: drawings a second, and the share of the processor's matmul peak.

    OMP_WAIT_POLICY=passive python benchmarks/train_step.py STORE [--device cpu] [--threads 2]
        [--repeats 5] [--batches 6] [--size 100] [--layers 2] [--encoder 256] [--decoder 512]
        [--latent 128]

The default sizes are those of the original (2 layers, 256, 512, 128, 20 modes, batches of 100).
"useful" counts the matrix products of real points alone, forwards and twice backwards: a share of
the measured matmul rate, at most 1. "decoder alone" is its LSTM both ways, without
the encoder, the likelihood and the optimiser. The loader's rate is that without workers; the peak
of memory is `memory.py`'s.
"""

import argparse
from functools import partial
from pathlib import Path

import torch
from machine import describe, matmul, matmul_flop, medians, precisions

from doodlelib.config import VAEConfig, read_config
from doodlelib.data.dataset import Split, load_split
from doodlelib.fast.cuda_graphs import Gradients
from doodlelib.models.batch import StrokeBatch
from doodlelib.models.network import NUM_FEATURES
from doodlelib.models.vae import SketchVAE
from doodlelib.training.batches import StrokeBatches

AUGMENTATION = {
    "random_scale_factor": 0.15,
    "augment_stroke_prob": 0.1,
    "flip_prob": 0.3,
    "rotate": 0.0,
    "shear": 0.0,
}


def epoch_of(split: Split, *, batch_size: int = 100) -> StrokeBatches:
    """Augmented batches of a split."""
    config = read_config(VAEConfig, batch_size=batch_size, max_seq_len=200, **AUGMENTATION)
    return StrokeBatches(split, config, epoch=0)


def make_vae(
    split: Split,
    *,
    layer_norm: bool,
    layers: int,
    encoder: int,
    decoder: int,
    latent: int,
    device: str = "cpu",
) -> SketchVAE:
    """A model in training; with layer norm comes recurrent dropout."""
    config = read_config(
        VAEConfig,
        num_lstm_layers=layers,
        enc_hidden_size=encoder,
        dec_hidden_size=decoder,
        latent_size=latent,
        use_layer_norm=layer_norm,
        recurrent_dropout=0.1 * layer_norm,
    )
    torch.manual_seed(0)
    vae = SketchVAE(config, words=split.classes, scale=split.scale, simplification={})
    return vae.to(device).train()


def useful_flop(vae: SketchVAE, batches: list[StrokeBatch]) -> float:
    """Of the matrix products over real points, forwards and backwards."""
    config, modes = vae.config, vae.head.out_features
    enc, dec, layers = config.enc_hidden_size, config.dec_hidden_size, config.num_lstm_layers
    condition = config.latent_size + vae.word_size
    encoder = sum(
        2 * 4 * enc * ((NUM_FEATURES if layer == 0 else 2 * enc) + enc) for layer in range(layers)
    )
    decoder = sum(
        4 * dec * ((NUM_FEATURES + condition if layer == 0 else dec) + dec)
        for layer in range(layers)
    )
    points = sum(int(batch.lengths.sum()) for batch in batches)
    return 3 * 2 * points * (encoder + decoder + dec * modes)


def gradients_of(vae: SketchVAE, *, half: bool) -> Gradients:
    """As `train.fit` takes them."""
    return Gradients(vae.loss, vae.make_optimizer(), vae.device, half=half)


def step(vae: SketchVAE, gradients: Gradients, batch: StrokeBatch) -> None:
    """One step, as `train.fit` makes it."""
    loss, _ = gradients.of(batch, step=0)
    norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), vae.config.grad_clip)
    if not torch.isfinite(loss + norm):
        raise FloatingPointError(f"the loss is {loss.item()}, its gradient's norm {norm.item()}")
    gradients.optimizer.step()


def decode(vae: SketchVAE, batches: list[StrokeBatch], half: bool) -> None:
    """The decoder's LSTM on numbers of the shapes of `batches`, and its gradients."""
    wide = NUM_FEATURES + vae.config.latent_size + vae.word_size
    for batch in batches:
        x = torch.randn(batch.size, batch.rows.shape[1] - 2, wide, device=vae.device)
        with torch.autocast(vae.device.type, torch.bfloat16, enabled=half):
            states = vae.first_states(vae.condition(x[:, 0, : vae.config.latent_size], batch.words))
            y, _ = vae.decoder(x, states)
        torch.autograd.backward(y, torch.ones_like(y))


def steps(vae: SketchVAE, gradients: Gradients, batches: list[StrokeBatch]) -> None:
    """A step on each of `batches`."""
    for batch in batches:
        step(vae, gradients, batch)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--size", type=int, default=100, help="drawings of a batch")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--encoder", type=int, default=256)
    parser.add_argument("--decoder", type=int, default=512)
    parser.add_argument("--latent", type=int, default=128)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    split = load_split(options.store, "train")
    epoch = epoch_of(split, batch_size=options.size)
    whole = [index for index, own in enumerate(epoch.batches) if len(own) == options.size]
    chosen = whole[: options.batches]
    batches = [epoch[index] for index in chosen]
    drawings = sum(batch.size for batch in batches)
    points = sum(int(batch.lengths.sum()) for batch in batches)
    print(f"{describe(options.device)}, median of {options.repeats}")
    print(f"{drawings} drawings, {options.size} a batch, {points / drawings:.1f} points each")
    names = ("device", "layers", "encoder", "decoder", "latent")
    settings = {name: getattr(options, name) for name in names}
    moved = [batch.to(options.device) for batch in batches]
    jobs, alone, useful = {}, {}, {}
    types = precisions(options.device)
    for layer_norm in (True, False):
        for precision in types:
            vae, key = make_vae(split, layer_norm=layer_norm, **settings), (layer_norm, precision)
            useful[layer_norm] = useful_flop(vae, batches)
            half = precision == "bfloat16"
            jobs[key] = partial(steps, vae, gradients_of(vae, half=half), batches)
            alone[(*key, "alone")] = partial(decode, vae, moved, half)
    floors = {name: matmul(dtype, options.device) for name, dtype in types.items()}
    loader = {"loader": lambda: [epoch[index] for index in chosen]}
    seconds = medians(jobs | alone | floors | loader, repeats=options.repeats)
    for precision in types:
        rate = matmul_flop(options.device) / seconds[precision]
        print(f"{precision}: matmul {rate / 1e9:,.0f} GFLOP/s")
        plain, plain_alone = seconds[False, precision], seconds[False, precision, "alone"]
        for layer_norm in (True, False):
            time, own = seconds[layer_norm, precision], seconds[layer_norm, precision, "alone"]
            name = "layer norm, recurrent dropout" if layer_norm else "plain"
            print(
                f"  {name:30} {drawings / time:8,.1f} drawings/s, {plain / time:.2f} of plain, "
                f"useful matmul at {useful[layer_norm] / time / rate:.3f} of the floor's rate; "
                f"decoder alone {1000 * own / len(batches):.1f} ms, {own / plain_alone:.2f}"
                " of plain"
            )
    fastest = min(seconds[key] for key in jobs)
    print(
        f"loader alone {drawings / seconds['loader']:,.0f} drawings/s, "
        f"{fastest / seconds['loader']:.0f} times the fastest step's rate"
    )


if __name__ == "__main__":
    main()
