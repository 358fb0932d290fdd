"""Pictures of drawings, and batches of them to train the classifier on.

N, B drawing, C channel, S side of a picture.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Shaped, UInt8
from torch import Tensor

from doodlelib.config import CNNConfig
from doodlelib.data.store import Split
from doodlelib.models.cnn import ImageBatch, draw


def images_of(split: Split, config: CNNConfig) -> UInt8[np.ndarray, "N C S S"]:
    """Pictures of all drawings of a split; errors as `draw`."""
    return draw([split.drawing(index) for index in range(len(split))], config)


def augment(
    images: UInt8[Tensor, "B C S S"], *, generator: torch.Generator, config: CNNConfig
) -> UInt8[Tensor, "B C S S"]:
    """Each picture shifted, turned, zoomed, mirrored, its lines another width, by random amounts.

    Args:
        images: On the CPU, as the generator is.
        generator: Source of randomness.
        config: Its `shift`, `rotate`, `zoom`, `flip_prob` and `line_width`.
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
    moved = F.grid_sample(images.float(), grid, mode="bicubic", align_corners=False).clamp(0, 255)
    wider = uniform(config.line_width, 1, 1, 1)
    if config.line_width:  # towards the darkest, or the palest, of each pixel and its neighbours
        darkest, palest = F.max_pool2d(moved, 3, 1, 1), -F.max_pool2d(-moved, 3, 1, 1)
        moved = torch.lerp(moved, torch.where(wider > 0, darkest, palest), wider.abs())
    return moved.round().to(torch.uint8)


class ImageBatches(torch.utils.data.Dataset):
    """One epoch of batches.

    A batch is a function of (seed, epoch, its number) alone, so that any number of loader workers
    gives the same, and a resumed run sees what the unbroken one would have.
    """

    def __init__(
        self,
        images: UInt8[np.ndarray, "N C S S"],
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
        images = torch.from_numpy(self.images[chosen])
        if self.epoch is not None:
            state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)
            generator = torch.Generator().manual_seed(int(state[0]))
            images = augment(images, generator=generator, config=self.config)
        return ImageBatch(images, torch.from_numpy(self.labels[chosen].astype(np.int64)))

    def load(self) -> torch.utils.data.DataLoader:
        """All batches in order, from the configured number of processes beside this one."""
        workers = self.config.num_workers
        return torch.utils.data.DataLoader(self, batch_size=None, num_workers=workers)
