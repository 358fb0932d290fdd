"""The classifier: a small residual network from images of doodles to words.

N, B drawing, C channel, S side of an image, W word.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64, Shaped, UInt8
from torch import Tensor, nn

from doodlelib.config import CNNConfig
from doodlelib.fast.cuda_graphs import Batch
from doodlelib.fast.parallel import Sums
from doodlelib.raster import rasterize_many, rasterize_timed

CHANNELS = {"ink": 1, "timed": 3}  # of an image, by `CNNConfig.channels`
PREDICT_BATCH = 256
TEMPERATURES = 0.1, 10.0  # range of `calibrate`


@dataclass(frozen=True)
class ImageBatch(Batch):
    """Images and the index of each one's word."""

    images: UInt8[Tensor, "B C S S"]
    labels: Int64[Tensor, " B"]


def to_images(drawings: Sequence, config: CNNConfig) -> UInt8[np.ndarray, "N C S S"]:
    """Images of the configured size and channels; ValueError where one lacks times they show."""
    if config.channels == "timed":
        return rasterize_timed(drawings, config.image_size)
    return rasterize_many(drawings, config.image_size)[:, None]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut.

    Source: He et al. 2016 (arXiv 1512.03385), sec. 3.3; shortcuts pool before they project, as He
    et al. 2019 (arXiv 1812.01187) sec. 4, model D.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Float[Tensor, "B C S S"]) -> Float[Tensor, "B C2 S2 S2"]:
        """Shortcut plus convolutions."""
        return F.relu(self.shortcut(x) + self.body(x))


class DoodleCNN(nn.Module):
    """Classifier of drawings: which of its words, each once, each one shows.

    A stem (at 255 px it shrinks the image eightfold, to 32), two pairs of residual blocks at half
    and quarter resolution, global average pooling, one linear layer. No block works at full
    resolution, where moving the many pixels would take longer than multiplying. `temperature`
    divides the logits before the softmax; see `calibrate`.
    """

    def __init__(self, config: CNNConfig, words: Sequence[str]) -> None:
        super().__init__()
        if not words or len(set(words)) != len(words):
            raise ValueError(f"a classifier needs words, each once, not {list(words)}")
        self.config, self.words = config, list(words)
        width, channels = config.width, CHANNELS[config.channels]
        first, pool = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.Identity()
        if config.image_size > 28:
            first = nn.Conv2d(channels, width, 7, stride=4, padding=3, bias=False)
            pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True), pool)
        self.stages = nn.Sequential(
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 2 * width, stride=1),
            ResidualBlock(2 * width, 4 * width, stride=2),
            ResidualBlock(4 * width, 4 * width, stride=1),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(4 * width, len(words))
        self.register_buffer("temperature", torch.ones(()))
        self.temperature: Tensor
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, images: Shaped[Tensor, "B C S S"]) -> Float[Tensor, "B W"]:
        """Logits of the words for images, uint8 or floats of that range; errors as `embed`."""
        return self.head(self.dropout(self.embed(images)))

    def embed(self, images: Shaped[Tensor, "B C S S"]) -> Float[Tensor, "B F"]:
        """Pooled features, the last layer's input; ValueError for images of another size."""
        needed = (CHANNELS[self.config.channels], *2 * [self.config.image_size])
        if tuple(images.shape[1:]) != needed:
            raise ValueError(f"images are {tuple(images.shape[1:])}, the model takes {needed}")
        x = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        return self.stages(self.stem(x)).mean(dim=(2, 3))

    def loss(self, batch: ImageBatch, *, step: int | Tensor | None) -> tuple[Tensor, Sums]:
        """Cross-entropy, nats an image, and the accuracy; labels are smoothed in training only.

        The figures are sums over the batch and counts. `step`, the optimiser's, has no effect.
        """
        logits = self(batch.images)
        smoothing = self.config.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        size = torch.tensor(float(batch.size))
        hits = (logits.argmax(dim=1) == batch.labels).sum()
        return loss, {"loss": (loss.detach() * size, size), "accuracy": (hits, size)}

    @torch.no_grad()
    def calibrate(self, drawings: Sequence | np.ndarray, labels: Shaped[np.ndarray, " N"]) -> float:
        """Set and return the temperature under which the true words of `drawings` are likeliest.

        These are held out from training; `labels` are the indices of their words.

        Source: Guo et al. 2017 (arXiv 1706.04599), sec. 4.2.
        """
        from scipy.optimize import minimize_scalar

        logits = torch.from_numpy(self._in_batches(drawings, self))
        truth = torch.from_numpy(labels.astype(np.int64))
        bounds = tuple(map(math.log, TEMPERATURES))
        found = minimize_scalar(
            lambda log: F.cross_entropy(logits / math.exp(log), truth).item(), bounds=bounds
        )
        self.temperature.fill_(math.exp(found.x))
        return self.temperature.item()

    @torch.no_grad()
    def predict(self, drawings: Sequence | UInt8[np.ndarray, "*"]) -> Float32[np.ndarray, "N W"]:
        """Probabilities of `words` for each of `drawings`.

        These are strokes, timed if the channels are; or one array of images, (N, S, S) or
        (N, C, S, S) as from `to_images`. ValueError where one is malformed, lacks times or has
        another shape.
        """
        return self._in_batches(drawings, lambda x: (self(x) / self.temperature).softmax(dim=1))

    @torch.no_grad()
    def features(self, drawings: Sequence | np.ndarray) -> Float32[np.ndarray, "N F"]:
        """`embed` for each of `drawings`, which are as for `predict`."""
        return self._in_batches(drawings, self.embed)

    def _in_batches(
        self, drawings: Sequence | np.ndarray, function: Callable[[Tensor], Tensor]
    ) -> Float32[np.ndarray, "N _"]:
        if not isinstance(drawings, np.ndarray):
            drawings = to_images(drawings, self.config)
        images = drawings[:, None] if drawings.ndim == 3 else drawings
        parts = np.split(images, range(PREDICT_BATCH, len(images), PREDICT_BATCH))
        training, device = self.training, self.head.weight.device
        self.eval()
        try:
            found = [function(torch.from_numpy(part).to(device)).cpu() for part in parts]
        finally:
            self.train(training)
        return torch.cat(found).numpy()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW, with the configured decay."""
        rate, decay = self.config.learning_rate, self.config.weight_decay
        return torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay, fused=True)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At a share `progress` of training: a line up from lr_min, then a cosine down to it."""
        config = self.config
        past = (progress - config.warmup) / (1 - config.warmup)
        height = (1 + math.cos(math.pi * past)) / 2 if past >= 0 else progress / config.warmup
        return config.lr_min + (config.learning_rate - config.lr_min) * height
