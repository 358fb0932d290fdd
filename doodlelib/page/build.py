"""A page to draw on with the models, as one HTML file: weights, JavaScript and style are in it.

Weights are rounded to 8 bits, with a factor for each row, but for last layers, where it costs most.
The page works from disk, and asks nothing of any network.
"""

import base64
import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from doodlelib.data.store import Split
from doodlelib.models.cnn import DoodleCNN
from doodlelib.models.vae import SketchVAE
from doodlelib.paths import write_whole
from doodlelib.strokes import BOX

OWN = Path(__file__).parent / "static"
SHARED = Path(__file__).parents[1] / "lab" / "static"
MODULES = [  # each after those that it imports
    *("dom.js", "drawing.js", "curve.js", "save.js", "gif.js", "endings.js", "player.js", "pad.js"),
    *("simplify.js", "sketcher.js", "classifier.js", "worker.js", "app.js"),
]
SHOWN = [  # first, where the VAE knows them: words that it draws well
    *("cat", "rabbit", "face", "sun", "apple", "snowman", "sailboat", "mushroom", "duck", "tree"),
    *("pineapple", "fish"),
]
EXEMPLARS = 16  # of a word: the densest, of which a cool temperature samples
MAX_BYTES = 12_000_000
LEVELS = 127  # on either side of 0
WHOLE = {"head", "encoder", "to_mean", "to_log_std"}  # layers not rounded, or not in the page

Packed = tuple[dict[str, Any], dict[str, Tensor]]  # what describes a model, and its weights
Model = TypeVar("Model", bound=nn.Module)


def build(path: str | Path, vae: SketchVAE, cnn: DoodleCNN, *, words: Sequence[str] = ()) -> int:
    """Write the page; its size in bytes.

    Args:
        path: Of the HTML file.
        vae: Draws; of one decoder layer with layer norm, told words, trained on times.
        cnn: Guesses what is drawn, at 28 px.
        words: Shown first; by default those of `SHOWN`, or the first twelve, that the VAE knows.

    Raises:
        ValueError: The page has no code for such a model, or would be too large.
    """
    shown = list(words) or [word for word in SHOWN if word in vae.words] or vae.words[:12]
    if unknown := sorted(set(shown) - set(vae.words)):
        raise ValueError(f"the model does not know {', '.join(unknown)}")
    specs: dict[str, Any] = {"shown": shown}
    blob = bytearray()
    for name, packed in (("sketcher", pack_vae(vae)), ("classifier", pack_cnn(cnn))):
        spec, tensors = packed
        places = {key: _append(blob, x, whole=key in WHOLE) for key, x in tensors.items()}
        specs[name] = spec | {"tensors": places}
    parts = {
        "STYLE": f"@layer lab {{\n{_text('doodles.css')}}}\n{_text('page.css')}",
        "SPECS": json.dumps(specs).replace("<", "\\u003c"),
        "WEIGHTS": base64.b64encode(blob).decode(),
        "MODULES": "".join(
            f'<script type="text/plain" data-module="{name}">\n{_text(name)}</script>\n'
            for name in MODULES
        ),
    }
    page = re.sub(r"%%(\w+)%%", lambda found: parts[found[1]], _text("page.html")).encode()
    if len(page) > MAX_BYTES:
        raise ValueError(f"a page of {len(page)} bytes, more than {MAX_BYTES}: take a smaller VAE")
    write_whole(path, page)
    return len(page)


def pack_vae(vae: SketchVAE) -> Packed:
    """What the page needs of a VAE; ValueError: see `build`."""
    config, scale = vae.config, vae.scale
    is_known = config.num_lstm_layers == 1 and config.use_layer_norm and vae.word_size
    if not (is_known and config.decoder_act == "tanh" and scale.knows_time):
        raise ValueError(
            "the page draws with a VAE of one layer with layer norm and tanh, told words and "
            f"trained on times; this one has {config}"
        )
    spec = {
        "words": vae.words,
        "hidden": config.dec_hidden_size,
        "latent": config.latent_size,
        "modes": config.num_gmm_modes,
        "longest": config.max_seq_len,
        "regCovar": config.reg_covar,
        "halfBoxes": 2 * scale.xy / BOX,
        "scale": {
            "xy": scale.xy,
            "segment": [scale.segment_mean, scale.segment_std],
            "pause": [scale.pause_mean, scale.pause_std],
        },
        "exemplars": EXEMPLARS,
        "simplification": vae.simplification,
        "hidesZ": config.hide_z_prob > 0,
    }
    weights, exemplars = vae.state_dict(), vae.exemplars
    layer = "decoder.layers.0."
    z = [exemplars.densest(word, EXEMPLARS) for word in range(len(vae.words))]
    return spec, {
        "embed_word": weights["embed_word.weight"],
        "to_state": weights["to_state.weight"],
        "to_state_bias": weights["to_state.bias"],
        "weight_ih": weights[f"{layer}weight_ih"],
        "weight_hh": weights[f"{layer}weight_hh"],
        "gain": weights[f"{layer}gate_gain"],
        "bias": weights[f"{layer}bias"],
        "norm_gain": weights[f"{layer}cell_norm.weight"],
        "norm_bias": weights[f"{layer}cell_norm.bias"],
        "head": weights["head.weight"],
        "head_bias": weights["head.bias"],
        "exemplar_mean": torch.cat([mean for mean, _ in z]),
        "exemplar_std": torch.cat([std for _, std in z]),
    }


def pack_cnn(cnn: DoodleCNN) -> Packed:
    """What the page needs of a classifier, batch norm within the convolutions; see `build`."""
    if (cnn.config.image_size, cnn.config.channels) != (28, "ink"):
        raise ValueError(f"the page classifies ink at 28 px; this classifier has {cnn.config}")
    net: Any = cnn.eval()
    fused: dict[str, Any] = {"stem": fuse_conv_bn_eval(*net.stem[:2]), "head": net.head}
    strides = []
    for number, parts in enumerate(net.stages):
        strides.append(parts.body[0].stride[0])
        fused[f"{number}_first"] = fuse_conv_bn_eval(*parts.body[:2])
        fused[f"{number}_second"] = fuse_conv_bn_eval(*parts.body[3:5])
        if len(parts.shortcut):
            fused[f"{number}_shortcut"] = fuse_conv_bn_eval(*parts.shortcut[1:])
    tensors = {}
    for name, each in fused.items():
        weight = each.weight.detach()
        rows = weight.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight
        tensors |= {name: rows, f"{name}_bias": each.bias.detach()}
    spec = {"words": cnn.words, "strides": strides, "temperature": cnn.temperature.item()}
    return spec, tensors


def quantised(model: Model) -> Model:
    """A copy with the weights that a page would have: matrices rounded to 8 bits a row."""
    rounded = copy.deepcopy(model)
    for name, weight in rounded.named_parameters():
        if weight.ndim > 1 and name.split(".")[0] not in WHOLE:
            values, factors = _quantise(weight.detach().flatten(1))
            weight.data = (values * factors[:, None]).view_as(weight)
    return rounded


def nats_lost(vae: SketchVAE, held_out: Split, most: int = 500) -> tuple[float, float, int]:
    """Negative log-likelihood a point, in nats, of a VAE and of its `quantised` copy, given z.

    Of at most `most` drawings, spread over a split; the third number is that of their points.
    """
    fitting = np.flatnonzero((held_out.lengths > 1) & (held_out.lengths <= vae.config.max_seq_len))
    chosen = np.unique(np.linspace(0, len(fitting) - 1, most).astype(int))
    drawings = [held_out.drawing(i) for i in fitting[chosen].tolist()]
    points, nats = 0, []
    for model in (vae, quantised(vae)):
        found = model.log_likelihood(drawings)
        points = sum(each.pen_count for each in found)
        total = sum(e.pen + e.position + e.segment_time + e.pause_time for e in found)
        nats.append(-total / points)
    return nats[0], nats[1], points


def _quantise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127, and the factor of each row."""
    factors = (matrix.abs().amax(dim=1) / LEVELS).clamp(min=1e-12)
    return (matrix / factors[:, None]).round(), factors


def _append(blob: bytearray, tensor: Tensor, *, whole: bool) -> dict[str, int | bool]:
    """Put a tensor at the end of `blob`; where it is."""
    blob.extend(bytes(-len(blob) % 4))
    matrix = torch.atleast_2d(tensor.detach().float()).flatten(1)
    described = {"offset": len(blob), "rows": len(matrix), "columns": matrix.shape[1]}
    if tensor.ndim == 1 or whole:
        blob.extend(matrix.contiguous().numpy().tobytes())
        return described
    values, factors = _quantise(matrix)
    blob.extend(factors.numpy().tobytes() + values.to(torch.int8).numpy().tobytes())
    return described | {"isRounded": True}


def _text(name: str) -> str:
    folder = OWN if (OWN / name).exists() else SHARED
    return (folder / name).read_text(encoding="utf-8")
