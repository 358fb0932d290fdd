"""Epochs of batches: strokes for the VAE and the retimer, images for the classifier.

N drawing of a split, B drawing of a batch, T row, C channel, S side of an image.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from doodlelib.config import CNNConfig, RetimeConfig, VAEConfig
from doodlelib.data.store import Split
from doodlelib.models.batch import StrokeBatch, collate
from doodlelib.models.cnn import ImageBatch, to_images
from doodlelib.simplify import keep_mask
from doodlelib.strokes import DT, PEN

RDP_EPSILON = 2.0  # px, as that of the published simplified drawings
AUGMENTATION = {  # hyper-parameters that `augment` takes
    *("random_scale_factor", "flip_prob", "shear", "rotate", "augment_stroke_prob", "rdp_prob")
}
BATCHES_PER_BUCKET = 100  # the drawings of so many batches, shuffled, are sorted by length


class _Epoch(Dataset):
    """The batches of one epoch; each is a function of (seed, epoch, its index) alone.

    So any number of loader processes gives the same batches, and a resumed training sees those
    that an unbroken one would have seen.
    """

    batches: list[np.ndarray]  # indices of the drawings of each
    num_workers: int

    def __len__(self) -> int:
        return len(self.batches)

    def load(self) -> DataLoader:
        """All batches in order, from the configuration's loader processes."""
        return DataLoader(self, batch_size=None, num_workers=self.num_workers)


class StrokeBatches(_Epoch):
    """One epoch of padded stroke batches; the drawings of a batch are of like length."""

    def __init__(
        self,
        split: Split,
        config: VAEConfig | RetimeConfig,
        *,
        seed: int = 0,
        epoch: int | None = None,
    ) -> None:
        """Choose and shuffle this epoch's drawings; ValueError if none can be taken.

        Drawings with more than ``max_seq_len`` points are left out (`left_out` counts them); for a
        retimer also those without time. An epoch for training is augmented and balanced; epoch
        None is for validation, of the drawings as they are.
        """
        self.split, self.seed, self.epoch = split, seed, epoch or 0
        self.num_workers = config.num_workers if epoch is not None else 0
        changes = vars(config).items() if epoch is not None else ()
        self.augmentation = {name: value for name, value in changes if name in AUGMENTATION}
        balance = getattr(config, "balance", 1.0) if epoch is not None else 1.0
        batch_size, most = config.batch_size, config.max_seq_len
        timed_only = isinstance(config, RetimeConfig)
        lengths = np.diff(split.offsets).astype(np.int32)  # millions of them: half the memory
        allowed = split.timed if timed_only else np.ones(len(split), dtype=bool)
        usable = np.flatnonzero(allowed & (lengths <= most)).astype(np.int32)
        if not len(usable):
            raise ValueError(
                f"none of the {allowed.sum()} {'timed ' * timed_only}drawings has at most {most} "
                "points (max_seq_len); prepare more drawings, or allow longer ones"
            )
        self.left_out = int(allowed.sum()) - len(usable)
        rng = np.random.default_rng((seed, self.epoch))
        if balance < 1:
            words = split.words[usable].astype(int)
            counts = np.bincount(words)
            wanted = counts**balance * (counts > 0)
            copies = (wanted * len(usable) / wanted.sum() / np.maximum(counts, 1))[words]
            # a fraction of a copy is rounded up or down at random
            usable = np.repeat(usable, (copies + rng.random(len(usable))).astype(int))
        usable = rng.permutation(usable)
        bucket = batch_size * BATCHES_PER_BUCKET
        buckets = np.array_split(usable, np.arange(0, len(usable), bucket)[1:])
        by_length = np.concatenate([b[np.argsort(lengths[b], kind="stable")] for b in buckets])
        batches = np.array_split(by_length, np.arange(0, len(usable), batch_size)[1:])
        self.batches = [batches[number] for number in rng.permutation(len(batches))]

    def __getitem__(self, index: int) -> StrokeBatch:
        chosen = self.batches[index]
        words = self.split.words[chosen]
        rows, lengths = self.split.select(chosen)
        if any(self.augmentation.values()):
            rng = np.random.default_rng((self.seed, self.epoch, index))
            rows, lengths = augment(rows, lengths, rng=rng, **self.augmentation)
        return collate(rows, lengths, words=words, scale=self.split.scale)


def augment(
    rows: Float[np.ndarray, "T 4"],
    lengths: Int[np.ndarray, " B"],
    *,
    rng: np.random.Generator,
    random_scale_factor: float = 0.0,
    flip_prob: float = 0.0,
    shear: float = 0.0,
    rotate: float = 0.0,
    augment_stroke_prob: float = 0.0,
    rdp_prob: float = 0.0,
) -> tuple[Float[np.ndarray, "t 4"], Int[np.ndarray, " B"]]:
    """Change each drawing's form at random, by little, and drop some of its points.

    A dropped point's dx, dy and dt go into the next row, so that the rest of the drawing stays
    where and when it was. Only points within a stroke are dropped, never its first or last.

    Args:
        rows: stroke-4 of the drawings, concatenated.
        lengths: Rows of each drawing; returned anew with the rows.
        rng: Source of randomness.
        random_scale_factor: dx and dy are each multiplied by 1 minus to 1 plus this.
        flip_prob: Chance of each drawing to be mirrored left to right.
        shear: dx grows by -shear to shear times dy; after scaling and mirroring.
        rotate: Turned by -rotate to rotate degrees; last.
        augment_stroke_prob: Chance of each point within a stroke to be dropped. Drawings of one
            length lose about as many, so that a batch of them needs little padding.
        rdp_prob: Chance of each drawing to be simplified by its geometry alone: the points that the
            time-keeping simplification keeps besides tell where the pen slowed down.

    Source: Ha & Eck 2017, sec. 4 and magenta's augment_strokes, which loses the dropped time.
    """
    drawing = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    stretch = rng.uniform(1 - random_scale_factor, 1 + random_scale_factor, size=(len(lengths), 2))
    stretch[rng.random(len(lengths)) < flip_prob, 0] *= -1
    continues = np.append(rows[1:, PEN] > 0.5, False)
    continues[first[1:] - 1] = False
    inner = (rows[:, PEN] > 0.5) & continues
    inner[first] = False
    count = augment_stroke_prob * np.bincount(drawing[inner], minlength=len(lengths))
    count = (count + rng.random(len(lengths))).astype(np.int64)  # rounded at random
    # each drawing's rows in random order, inner ones before the others
    order = np.argsort(drawing + (rng.random(len(rows)) + ~inner) / 2)
    kept = np.empty_like(inner)
    kept[order] = np.arange(len(rows)) - first[drawing] >= count[drawing]

    untimed = np.isnan(rows[:, DT])
    cumulative = np.nan_to_num(rows[:, :PEN].astype(np.float64)).cumsum(axis=0)
    if rdp_prob:
        begins = rows[:, PEN] < 0.5
        begins[first] = True
        bounds = np.append(np.flatnonzero(begins), len(rows))
        needed = keep_mask(cumulative.T.copy(), bounds, RDP_EPSILON, math.inf)
        kept &= needed | (rng.random(len(lengths)) >= rdp_prob)[drawing]
    moves = np.diff(cumulative[kept], axis=0, prepend=cumulative[:1])
    angle = np.deg2rad(rotate) * rng.uniform(-1, 1, size=len(lengths))
    slant = rng.uniform(-shear, shear, size=len(lengths))
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.empty((len(lengths), 2, 2))  # of each drawing, applied to row vectors (dx, dy)
    matrix[:, 0] = np.stack([cos, sin], axis=1) * stretch[:, :1]
    matrix[:, 1] = np.stack([slant * cos - sin, slant * sin + cos], axis=1) * stretch[:, 1:]
    new = np.empty((int(kept.sum()), 4), dtype=rows.dtype)
    new[:, :DT] = np.einsum("ni,nij->nj", moves[:, :DT], matrix[drawing[kept]])
    new[:, DT] = np.where(untimed[kept], np.nan, moves[:, DT])
    new[:, PEN] = rows[kept, PEN]
    return new, np.bincount(drawing[kept], minlength=len(lengths))


class ImageBatches(_Epoch):
    """One epoch of image batches."""

    def __init__(
        self,
        images: UInt8[np.ndarray, "N C S S"],
        labels: Shaped[np.ndarray, " N"],
        *,
        config: CNNConfig,
        seed: int = 0,
        epoch: int | None = None,
    ) -> None:
        """Shuffle and augment the images; epoch None: in the order given, as they are."""
        if not len(images):
            raise ValueError("there are no images to make batches of")
        self.images, self.labels, self.config = images, labels, config
        self.seed, self.epoch, self.num_workers = seed, epoch, config.num_workers
        order = np.arange(len(images))
        if epoch is not None:
            order = np.random.default_rng((seed, epoch)).permutation(order)
        self.batches = np.array_split(order, np.arange(0, len(order), config.batch_size)[1:])

    def __getitem__(self, index: int) -> ImageBatch:
        chosen = self.batches[index]
        images = torch.from_numpy(self.images[chosen])
        if self.epoch is not None:
            state = np.random.SeedSequence((self.seed, self.epoch, index)).generate_state(1)
            generator = torch.Generator().manual_seed(int(state[0]))
            images = augment_images(images, generator=generator, config=self.config)
        return ImageBatch(images, torch.from_numpy(self.labels[chosen].astype(np.int64)))


def images_of(split: Split, config: CNNConfig) -> UInt8[np.ndarray, "N C S S"]:
    """Images of all drawings of a split; ValueError if they lack times that they are to show."""
    return to_images([split.drawing(index) for index in range(len(split))], config)


def augment_images(
    images: UInt8[Tensor, "B C S S"], *, generator: torch.Generator, config: CNNConfig
) -> UInt8[Tensor, "B C S S"]:
    """Shift, rotate, zoom and mirror each image and change its line width, at random."""

    def uniform(most: float, *shape: int) -> Tensor:
        return most * (2 * torch.rand(len(images), *shape, generator=generator) - 1)

    angle, zoom = uniform(math.radians(config.rotate)), 1 / (1 + uniform(config.zoom))
    mirror = 1 - 2 * (torch.rand(len(images), generator=generator) < config.flip_prob).float()
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    turn = torch.stack([cos * mirror, -sin, sin * mirror, cos], dim=1).view(-1, 2, 2)
    shift = uniform(2 * config.shift, 2, 1)  # an image is 2 units wide
    grid = F.affine_grid(torch.cat([turn, shift], dim=2), list(images.shape), align_corners=False)
    # bilinear would pale the thin lines, which images at prediction have in full
    moved = F.grid_sample(images.float(), grid, mode="bicubic", align_corners=False).clamp(0, 255)
    wider = uniform(config.line_width, 1, 1, 1)
    if config.line_width:  # towards the darkest, or the palest, of each pixel and its neighbours
        darkest, palest = F.max_pool2d(moved, 3, 1, 1), -F.max_pool2d(-moved, 3, 1, 1)
        moved = torch.lerp(moved, torch.where(wider > 0, darkest, palest), wider.abs())
    return moved.round().to(torch.uint8)
