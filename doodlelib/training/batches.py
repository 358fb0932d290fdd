"""Epochs of padded batches: augmentation, and drawings of like length together.

B drawing, T row.
"""

import math

import numpy as np
import torch

from doodlelib.data.store import Split
from doodlelib.models.batch import StrokeBatch, collate
from doodlelib.strokes import DT, PEN

RDP_EPSILON = 2.0  # px, as that of the published simplified drawings


BUCKET = 100  # batches: within so many, shuffled, drawings are sorted by length


def augment(
    rows: np.ndarray,
    lengths: np.ndarray,
    *,
    scale_factor: float,
    drop_prob: float,
    flip_prob: float,
    rdp_prob: float = 0.0,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch each drawing a little, mirror some, and drop some points.

    A dropped point's dx, dy and dt go into the next row, so that the rest of the drawing stays
    where and when it was. Only points within a stroke are dropped, never its first or last.

    Args:
        rows: stroke-4 of drawings one behind the other.
        lengths: Points of each.
        scale_factor: dx and dy are multiplied apart by 1 - scale_factor to 1 + scale_factor.
        drop_prob: Chance of each point within a stroke. Drawings of one length lose about as many
            points, so that a batch of them is padded little.
        flip_prob: Chance of each drawing to be mirrored left to right.
        rdp_prob: Chance of each drawing to keep of its points only those that its shape needs:
            what the time-keeping simplification keeps besides tells where the pen slowed down.
        rng: Source of randomness.

    Returns:
        New rows and lengths.

    Source: Ha & Eck 2017, sec. 4 and magenta's augment_strokes, which loses the dropped time.
    """
    drawing = np.repeat(np.arange(len(lengths)), lengths)
    first = np.cumsum(lengths) - lengths
    stretch = rng.uniform(1 - scale_factor, 1 + scale_factor, size=(len(lengths), 2))
    stretch[rng.random(len(lengths)) < flip_prob, 0] *= -1
    continues = np.append(rows[1:, PEN] > 0.5, False)
    continues[first[1:] - 1] = False
    inner = (rows[:, PEN] > 0.5) & continues
    inner[first] = False
    kept = ~_some(inner, drawing, first, share=drop_prob, rng=rng)

    untimed = np.isnan(rows[:, DT])
    cumulative = np.nan_to_num(rows[:, :PEN].astype(np.float64)).cumsum(axis=0)
    if rdp_prob:
        from doodlelib.data import kernels

        begins = rows[:, PEN] < 0.5
        begins[first] = True
        bounds = np.append(np.flatnonzero(begins), len(rows))
        needed = kernels.keep(cumulative.T.copy(), bounds, RDP_EPSILON, math.inf)
        kept &= needed | (rng.random(len(lengths)) >= rdp_prob)[drawing]
    moves = np.diff(cumulative[kept], axis=0, prepend=cumulative[:1])
    new = np.empty((int(kept.sum()), 4), dtype=rows.dtype)
    new[:, :DT] = moves[:, :DT] * stretch[drawing[kept]]
    new[:, DT] = np.where(untimed[kept], np.nan, moves[:, DT])
    new[:, PEN] = rows[kept, PEN]
    return new, np.bincount(drawing[kept], minlength=len(lengths))


def _some(
    among: np.ndarray,
    drawing: np.ndarray,
    first: np.ndarray,
    *,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Choose a `share` of each drawing's points `among` which one may; counts round at random.

    Args:
        among: Of all points, (n,) bool.
        drawing: Each point's, (n,), in order.
        first: Each drawing's first point.
        share: Chance of each point.
        rng: Source of randomness.

    Returns:
        (n,) bool.
    """
    may = np.bincount(drawing[among], minlength=len(first))
    count = (share * may + rng.random(len(first))).astype(np.int64)
    # within each drawing at random, those among which one may choose before the others
    order = np.argsort(drawing + (rng.random(len(among)) + ~among) / 2)
    chosen = np.empty_like(among)
    chosen[order] = np.arange(len(among)) - first[drawing] < count[drawing]
    return chosen


class StrokeBatches(torch.utils.data.Dataset):
    """One epoch of padded batches of drawings of like length.

    A batch is a function of (seed, epoch, its number) alone, so that any number of loader workers
    gives the same, and a resumed run sees what the unbroken one would have.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        max_seq_len: int,
        seed: int,
        epoch: int = 0,
        scale_factor: float = 0.0,
        drop_prob: float = 0.0,
        flip_prob: float = 0.0,
        rdp_prob: float = 0.0,
        timed_only: bool = False,
    ) -> None:
        """Choose this epoch's batches.

        Args:
            split: Of a prepared store.
            batch_size: Drawings in a batch; the last of an epoch may have fewer.
            max_seq_len: Longer drawings are left out.
            seed: With the epoch decides order and augmentation.
            epoch: Number of the pass.
            scale_factor: See `augment`; 0 leaves sizes as they are.
            drop_prob: See `augment`; 0 leaves all points.
            flip_prob: See `augment`; 0 mirrors none.
            rdp_prob: See `augment`; 0 leaves all points.
            timed_only: Leave out drawings without time.

        Raises:
            ValueError: No drawing is short enough, or timed.
        """
        self.split, self.seed, self.epoch = split, seed, epoch
        self.augmentation = {
            "scale_factor": scale_factor,
            "drop_prob": drop_prob,
            "flip_prob": flip_prob,
            "rdp_prob": rdp_prob,
        }
        lengths = np.diff(split.offsets).astype(np.int32)  # millions of them: half the memory
        among = split.timed if timed_only else np.ones(len(split), dtype=bool)
        usable = np.flatnonzero(among & (lengths <= max_seq_len)).astype(np.int32)
        if not len(usable):
            raise ValueError(
                f"none of the {among.sum()} {'timed ' * timed_only}drawings has at most "
                f"{max_seq_len} points (max_seq_len); prepare more drawings, or allow longer ones"
            )
        self.left_out = int(among.sum()) - len(usable)
        rng = np.random.default_rng((seed, epoch))
        usable = rng.permutation(usable)
        buckets = np.array_split(usable, np.arange(0, len(usable), batch_size * BUCKET)[1:])
        by_length = np.concatenate([b[np.argsort(lengths[b], kind="stable")] for b in buckets])
        batches = np.array_split(by_length, np.arange(0, len(usable), batch_size)[1:])
        self.batches = [batches[number] for number in rng.permutation(len(batches))]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> StrokeBatch:
        chosen = self.batches[index]
        words = self.split.words[chosen]
        rows, lengths = self.split.take(chosen)
        if any(self.augmentation.values()):
            rng = np.random.default_rng((self.seed, self.epoch, index))
            rows, lengths = augment(rows, lengths, **self.augmentation, rng=rng)
        return collate(rows, lengths, words=words, scale=self.split.scale)

    def load(self, *, num_workers: int = 0) -> torch.utils.data.DataLoader:
        """All batches in order, from `num_workers` processes beside this one."""
        return torch.utils.data.DataLoader(self, batch_size=None, num_workers=num_workers)
