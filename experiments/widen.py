"""A wider VAE that computes what a trained one computes, to go on training it with more weights.

    python experiments/widen.py MODEL.pt OUT.pt [--times 2] [--encoder-times 2] [--latent 96]
        [--seed 0]

Each hidden unit becomes as many as `--times` says, with the same incoming weights; what it sent to
others is shared out among its copies unevenly, so that training tells them apart. New latent
dimensions are noise that the decoder does not listen to yet. A training goes on from OUT with
notebook 03's `start`. Its exemplars are empty: that training fills them.

Source: Chen et al. 2016, Net2Net (arXiv 1511.05641), sec. 2.2.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from doodlelib.models import checkpoint
from doodlelib.models.lstm import NormLayer
from doodlelib.models.vae import SketchVAE

NOISE = 0.3  # of the weights' standard deviation, in what the copies of a unit share


def copied(weight: Tensor, times: int, *, gates: int = 1) -> Tensor:
    """Rows of incoming weights, those of each of `gates` blocks `times` times."""
    return torch.cat([part for block in weight.chunk(gates) for part in [block] * times])


def shared(weight: Tensor, times: int, *, generator: torch.Generator) -> Tensor:
    """Columns of outgoing weights, shared among `times` copies of a unit, which sum to `weight`."""
    noise = NOISE * weight.std() * torch.randn(times, *weight.shape, generator=generator)
    return torch.cat(list(weight / times + noise - noise.mean(0)), dim=1)


def with_latent(weight: Tensor, *, at: int, more: int) -> Tensor:
    """Columns of weights that read z, with `more` after those up to `at` that do nothing yet."""
    return torch.cat([weight[:, :at], weight.new_zeros(len(weight), more), weight[:, at:]], dim=1)


@torch.no_grad()
def widen(
    vae: SketchVAE, *, times: int, encoder_times: int, latent_size: int, seed: int = 0
) -> SketchVAE:
    """`vae` with more hidden units and latent dimensions, computing the same.

    Raises:
        ValueError: It has several layers, no layer norm, or more latent dimensions than asked for.
    """
    old = vae.config
    more = latent_size - old.latent_size
    if old.num_lstm_layers != 1 or not old.use_layer_norm or more < 0:
        raise ValueError(
            f"only one layer with layer norm can be widened, not {old.num_lstm_layers}, and a z of "
            f"{old.latent_size} only to more dimensions, not to {latent_size}"
        )
    generator = torch.Generator().manual_seed(seed)
    config = replace(
        old,
        enc_hidden_size=old.enc_hidden_size * encoder_times,
        dec_hidden_size=old.dec_hidden_size * times,
        latent_size=latent_size,
    )
    torch.manual_seed(seed)
    wide = SketchVAE(config, words=vae.words, scale=vae.scale, simplification=vae.simplification)
    wide.embed_word.load_state_dict(vae.embed_word.state_dict())
    for source, target in zip(vae.encoder.modules(), wide.encoder.modules(), strict=True):
        if isinstance(source, nn.LSTM) and isinstance(target, nn.LSTM):
            own, given = list(target.parameters()), list(source.parameters())
            for number, (new, weight) in enumerate(zip(own, given, strict=True)):
                weight = copied(weight, encoder_times, gates=4)
                if number == 1:  # weight_hh
                    weight = shared(weight, encoder_times, generator=generator)
                new.copy_(weight)
    for target, source in ((wide.to_mean, vae.to_mean), (wide.to_log_std, vae.to_log_std)):
        ends = source.weight.chunk(2, dim=1)  # of the two directions
        parts = [shared(end, encoder_times, generator=generator) for end in ends]
        target.weight[: old.latent_size] = torch.cat(parts, dim=1)
        target.bias[: old.latent_size] = source.bias
    wide.to_mean.weight[old.latent_size :].normal_(std=float(vae.to_mean.weight.std()) / 2)

    states = with_latent(vae.to_state.weight, at=old.latent_size, more=more)
    wide.to_state.weight.copy_(copied(states, times, gates=2))
    wide.to_state.bias.copy_(copied(vae.to_state.bias, times, gates=2))
    layers = [each for each in vae.decoder.modules() if isinstance(each, NormLayer)]
    targets = [each for each in wide.decoder.modules() if isinstance(each, NormLayer)]
    for source, target in zip(layers, targets, strict=True):
        at = source.weight_ih.shape[1] - vae.word_size
        inputs = with_latent(source.weight_ih, at=at, more=more)
        target.weight_ih.copy_(copied(inputs, times, gates=4))
        recurrent = copied(source.weight_hh, times, gates=4)
        target.weight_hh.copy_(shared(recurrent, times, generator=generator))
        target.bias.copy_(copied(source.bias, times, gates=4))
        target.gate_gain.copy_(copied(source.gate_gain, times, gates=4))
        target.cell_norm.weight.copy_(copied(source.cell_norm.weight, times))
        target.cell_norm.bias.copy_(copied(source.cell_norm.bias, times))
    wide.head.weight.copy_(shared(vae.head.weight, times, generator=generator))
    wide.head.bias.copy_(vae.head.bias)
    return wide.eval()


def main() -> None:
    """Write the wider model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--times", type=int, default=2, help="decoder units for one")
    parser.add_argument("--encoder-times", type=int, default=2, help="encoder units for one")
    parser.add_argument("--latent", type=int, default=96, help="numbers in z")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    vae, _ = checkpoint.read(given.model, SketchVAE)
    sizes = {"times": given.times, "encoder_times": given.encoder_times}
    wide = widen(vae, **sizes, latent_size=given.latent, seed=given.seed)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(given.out, wide)
    sizes = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (vae, wide)]
    print(f"{given.out}: {sizes[1]:.2f} million parameters, of {sizes[0]:.2f}")


if __name__ == "__main__":
    main()
