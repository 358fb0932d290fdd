"""The classifier of QuickDraw-Doodler, from its description; `classifier.py` trains it."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BATCH = 64


class Original(nn.Sequential):
    """Five 3x3 convolutions with batch norm, two poolings, three layers: 14.55 million weights."""

    def __init__(self, words: int) -> None:
        """With new weights."""
        super().__init__()
        channels = (1, 32, 64, 128, 256, 512)
        for index, (inputs, outputs) in enumerate(pairwise(channels)):
            self.extend([nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)])
            self.append(nn.ReLU())
            if index in (2, 4):
                self.append(nn.MaxPool2d(2))
        self.append(nn.Flatten())
        for inputs, outputs in ((512 * 7 * 7, 512), (512, 256)):
            self.extend([nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(0.3)])
        self.append(nn.Linear(256, words))


def original_step(
    network: Original,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    *,
    half: bool = True,
) -> None:
    """One step of the original's training."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
        loss = F.cross_entropy(network(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
