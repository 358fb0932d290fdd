"""The classifier: a small residual network from pictures of doodles to words, and its batches.

N, B drawing, C channel, S side of a picture, W word.
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
from doodlelib.raster import rasterize_many
from doodlelib.store import Split

PREDICT_BATCH = 256
Sums = dict[str, tuple[Tensor, Tensor]]  # by name: sum over a batch, and count of what was summed


@dataclass(frozen=True)
class ImageBatch:
    """Pictures and the index of each one's word."""

    images: UInt8[Tensor, "B C S S"]
    labels: Int64[Tensor, " B"]

    @property
    def size(self) -> int:
        """Number of pictures."""
        return len(self.labels)

    def to(self, device: torch.device | str) -> "ImageBatch":
        """The batch on `device`."""
        return ImageBatch(self.images.to(device), self.labels.to(device))


def images_of(split: Split, size: int) -> UInt8[np.ndarray, "N S S"]:
    """Pictures of all drawings of a split."""
    return rasterize_many([split.drawing(index) for index in range(len(split))], size)


def augment(
    images: UInt8[Tensor, "B C S S"], *, generator: torch.Generator, config: CNNConfig
) -> UInt8[Tensor, "B C S S"]:
    """Each picture shifted, turned, zoomed and perhaps mirrored, by its own random amounts.

    Args:
        images: On the CPU, as the generator is.
        generator: Source of randomness.
        config: Its `shift`, `rotate`, `zoom` and `flip_prob`.
    """

    def uniform(most: float, *shape: int) -> Tensor:
        return most * (2 * torch.rand(len(images), *shape, generator=generator) - 1)

    angle, zoom = uniform(math.radians(config.rotate)), 1 / (1 + uniform(config.zoom))
    mirror = 1 - 2 * (torch.rand(len(images), generator=generator) < config.flip_prob).float()
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(-1, 2, 2)
    shift = uniform(2 * config.shift, 2, 1)  # a picture is 2 units wide
    grid = F.affine_grid(torch.cat([turn, shift], dim=2), list(images.shape), align_corners=False)
    # bilinear would pale the thin lines that later pictures have in full
    moved = F.grid_sample(images.float(), grid, mode="bicubic", align_corners=False)
    return moved.clamp(0, 255).round().to(torch.uint8)


class ImageBatches(torch.utils.data.Dataset):
    """One epoch of batches.

    A batch is a function of (seed, epoch, its number) alone, so that any number of loader workers
    gives the same, and a resumed run sees what the unbroken one would have.
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "N S S"],
        labels: Shaped[np.ndarray, " N"],
        *,
        config: CNNConfig,
        seed: int = 0,
        epoch: int | None = None,
    ) -> None:
        """Choose this epoch's batches.

        Args:
            images: See `images_of`.
            labels: Index of each picture's word.
            config: Of the batches and the augmentation.
            seed: With the epoch decides order and augmentation.
            epoch: None: in the order given, without augmentation.

        Raises:
            ValueError: There are no pictures.
        """
        if not len(images):
            raise ValueError("there are no pictures to make batches of")
        self.images, self.labels, self.config = images, labels, config
        self.seed, self.epoch = seed, epoch
        order = np.arange(len(images))
        if epoch is not None:
            order = np.random.default_rng((seed, epoch)).permutation(order)
        self.batches = np.array_split(order, np.arange(0, len(order), config.batch_size)[1:])

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> ImageBatch:
        chosen = self.batches[index]
        images = torch.from_numpy(self.images[chosen])[:, None]
        if self.epoch is not None:
            state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)
            generator = torch.Generator().manual_seed(int(state[0]))
            images = augment(images, generator=generator, config=self.config)
        return ImageBatch(images, torch.from_numpy(self.labels[chosen].astype(np.int64)))

    def load(self) -> torch.utils.data.DataLoader:
        """All batches in order, from the configured number of processes beside this one."""
        workers = self.config.num_workers
        return torch.utils.data.DataLoader(self, batch_size=None, num_workers=workers)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, each normalised.

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
        """Shortcut plus what the convolutions add."""
        return F.relu(self.shortcut(x) + self.body(x))


class DoodleCNN(nn.Module):
    """Which word a drawing shows.

    A stem (at 255 px it shrinks the picture eightfold, to 32), three stages of residual blocks at
    full, half and quarter resolution, the mean over the picture, one linear layer.
    """

    CHANNELS = 1  # ink

    def __init__(self, config: CNNConfig, words: Sequence[str]) -> None:
        """Build the network with new weights from torch's global random state.

        Raises:
            ValueError: No words, or the same twice.
        """
        super().__init__()
        if not words or len(set(words)) != len(words):
            raise ValueError(f"a classifier needs words, each once, not {list(words)}")
        self.config, self.words = config, list(words)
        width = config.width
        first = nn.Conv2d(self.CHANNELS, width, 3, padding=1, bias=False)
        if config.image_size > 28:
            first = nn.Conv2d(self.CHANNELS, width, 7, stride=4, padding=3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        if config.image_size > 28:
            self.stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.Sequential(
            ResidualBlock(width, width, stride=1),
            ResidualBlock(width, 2 * width, stride=2),
            ResidualBlock(2 * width, 2 * width, stride=1),
            ResidualBlock(2 * width, 4 * width, stride=2),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(4 * width, len(words))
        nn.utils.convert_conv2d_weight_memory_format(self, torch.channels_last)

    def forward(self, images: Shaped[Tensor, "B C S S"]) -> Float[Tensor, "B W"]:
        """Logits of the words for pictures, uint8 or floats of that range.

        Raises:
            ValueError: The pictures are not of the configured size.
        """
        return self.head(self.dropout(self.embed(images)))

    def embed(self, images: Shaped[Tensor, "B C S S"]) -> Float[Tensor, "B F"]:
        """What the last layer sees of pictures; arguments and errors as `forward`."""
        needed = (self.CHANNELS, self.config.image_size, self.config.image_size)
        if images.shape[1:] != needed:
            raise ValueError(f"pictures are {tuple(images.shape[1:])}, the model takes {needed}")
        x = (images.float() / 255).contiguous(memory_format=torch.channels_last)
        return self.stages(self.stem(x)).mean(dim=(2, 3))

    def loss(self, batch: ImageBatch, *, step: int | None) -> tuple[Tensor, Sums]:
        """Cross-entropy, nats a picture, and the accuracy; labels are smoothed in training only.

        `step`, the optimiser's, plays no part here.

        Returns:
            The loss, and for each figure of interest its sum over the batch and the count.
        """
        logits = self(batch.images)
        smoothing = self.config.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        size = torch.tensor(float(batch.size))
        hits = (logits.argmax(dim=1) == batch.labels).sum()
        return loss, {"loss": (loss.detach() * size, size), "accuracy": (hits, size)}

    @torch.no_grad()
    def predict(
        self, drawings: Sequence | UInt8[np.ndarray, "N S S"]
    ) -> Float32[np.ndarray, "N W"]:
        """Probabilities of `words` for each of `drawings`.

        These are strokes, or one array of pictures as `rasterize_many` and `to_frame` make them.

        Raises:
            ValueError: A drawing is malformed, or the pictures are not of the configured size.
        """
        return self._in_parts(drawings, lambda x: self(x).softmax(dim=1))

    @torch.no_grad()
    def features(
        self, drawings: Sequence | UInt8[np.ndarray, "N S S"]
    ) -> Float32[np.ndarray, "N F"]:
        """What the last layer sees of each of `drawings`; arguments and errors as `predict`."""
        return self._in_parts(drawings, self.embed)

    def _in_parts(
        self,
        drawings: Sequence | UInt8[np.ndarray, "N S S"],
        function: Callable[[Tensor], Tensor],
    ) -> Float32[np.ndarray, "N _"]:
        if not isinstance(drawings, np.ndarray):
            drawings = rasterize_many(drawings, self.config.image_size)
        parts = np.split(drawings, range(PREDICT_BATCH, len(drawings), PREDICT_BATCH))
        training, device = self.training, self.head.weight.device
        self.eval()
        try:
            found = [function(torch.from_numpy(part)[:, None].to(device)).cpu() for part in parts]
        finally:
            self.train(training)
        return torch.cat(found).numpy()

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW, with the configured decay."""
        rate, decay = self.config.learning_rate, self.config.weight_decay
        return torch.optim.AdamW(self.parameters(), lr=rate, weight_decay=decay)

    def learning_rate(self, step: int, *, progress: float) -> float:
        """At a share `progress` of training: a cosine from learning_rate down to lr_min."""
        first, last = self.config.learning_rate, self.config.lr_min
        return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2
