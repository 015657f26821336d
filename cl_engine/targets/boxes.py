"""Boxes around things: detection."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_engine.core.measure import Measure
from cl_engine.metrics.sums import average_precision
from cl_engine.nn.target import Target
from cl_engine.options import option

BINS = 100  # of confidence, in which answers are counted
OVERLAP = 0.5  # intersection over union from which an answer has found a box
PRIOR = math.log(
    99
)  # minus the confidence of a head that has learned nothing: one place in a hundred (Lin et al. 2017)
STILL_SEEN = 0.25  # of a box's area, from which it is still asked for where its picture was moved
FOCUS, SHARE = 2.0, 0.25  # γ and α of the focal loss (Lin et al. 2017)


class Boxes(Target):
    """Boxes ``[N, K, 4]``: left, top, right, bottom in pixels; −1 where a row has fewer. Further columns are not looked at.

    A dense head without anchors (Tian et al. 2019): at each place of the net's map a confidence, by focal loss, and the
    distances to the four sides, by 1 − IoU; a box is learned by the places in its central half, and by the one nearest to its
    centre. Answers are the surest places, thinned by non-maximum suppression. Measured by average precision at an overlap of
    .5 (all-point interpolation; confidence in a hundred steps), a box found once. COCO's mean of precision at 101 recalls is
    within .01 of it.

    >>> target = Boxes.of(size=[8, 8])
    >>> y = torch.tensor([[[0.0, 0, 8, 8]]])
    >>> outputs = torch.tensor([6.0, 0, 0, 0, 0]).reshape(1, 5, 1, 1)  # one place, sure, half a side each way
    >>> target.score(target.sums(outputs, y).numpy())
    np.float64(1.0)
    """

    places = True
    follows_images = True
    background = True
    size: list[int] = option(..., "height and width of the pictures, in pixels", min_length=2, max_length=2)
    most: int = option(32, "answers a picture at the most", ge=1)
    suppress: float = option(0.45, "overlap with a surer answer from which one is dropped", gt=0, lt=1)
    surest: float = option(0.02, "confidence below which nothing is answered", ge=0, lt=1)

    measure = Measure("ap_50")
    outputs = 5

    @property
    def sum_names(self) -> tuple[str, ...]:
        steps = range(BINS)
        return ("boxes", *(f"right {k}" for k in steps), *(f"wrong {k}" for k in steps))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        sure, found = self._read(outputs)
        x, rows, step_x, step_y = self._places(outputs)
        left, top, right, bottom = (side.unsqueeze(-1) for side in y[..., :4].unbind(-1))  # [N, K, 1]
        near_x = (x - (left + right) / 2).abs() <= torch.maximum((right - left) / 4, torch.full_like(left, step_x / 2))
        near_y = (rows - (top + bottom) / 2).abs() <= torch.maximum(
            (bottom - top) / 4, torch.full_like(top, step_y / 2)
        )
        own = near_x & near_y & (right > left)  # [N, K, P]
        area = ((right - left) * (bottom - top)).masked_fill(~own, torch.inf)
        smallest = area.argmin(dim=1, keepdim=True)  # of several, the smallest box has the place
        is_box = own.any(dim=1)
        wanted = y[..., :4].gather(1, smallest.transpose(1, 2).expand(-1, -1, 4))  # [N, P, 4]
        chance = sure.sigmoid()
        truth = is_box.to(sure.dtype)
        missed = (truth - chance).abs()
        weight = torch.where(is_box, SHARE, 1 - SHARE) * missed**FOCUS
        confidence = (weight * F.binary_cross_entropy_with_logits(sure, truth, reduction="none")).sum(dim=1)
        shape = ((1 - overlap(found, wanted)) * truth).sum(dim=1)
        return (confidence + shape) / truth.sum(dim=1).clamp_min(1)

    @torch.no_grad()
    def sums(self, outputs: Tensor, y: Tensor) -> Tensor:
        answers = self.answers(outputs)
        sure, there = answers[..., 4], answers[..., 4] >= 0
        real = y[..., 2] > y[..., 0]
        overlaps = overlap(answers[:, :, None, :4], y[:, None, :, :4].to(answers.dtype)) * real.unsqueeze(1)
        free, right = real.clone(), torch.zeros_like(there)
        for k in range(answers.shape[1]):  # by falling confidence: each takes the best box that is still free
            best, which = (overlaps[:, k] * free).max(dim=1)
            right[:, k] = there[:, k] & (best >= OVERLAP)
            free &= ~(F.one_hot(which, free.shape[1]).bool() & right[:, k, None])
        step = (sure.clamp(0, 1) * BINS).long().clamp_max(BINS - 1)
        counts = [step[part].bincount(minlength=BINS) for part in (right, there & ~right)]
        return torch.cat([real.sum().reshape(1), *counts]).double()

    def scores(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        boxes, right, wrong = sums[..., 0], sums[..., 1 : 1 + BINS], sums[..., 1 + BINS :]
        return {"ap_50": average_precision(right, wrong, boxes)}

    def vectors(self, y: Tensor) -> Tensor:
        rows, columns = ((torch.arange(8, device=y.device) + 0.5) * side / 8 for side in self.size)
        left, top, right, bottom = (side[:, :, None, None] for side in y[..., :4].unbind(-1))
        across, down = columns[None, None, None], rows[None, None, :, None]
        inside = (across >= left) & (across < right) & (down >= top) & (down < bottom)
        return inside.any(dim=1).flatten(1).float()

    def guess(self, y: Tensor) -> Tensor:
        real = y[..., 2] > y[..., 0]
        width, height = ((y[..., at + 2] - y[..., at])[real].float().mean() / 2 for at in (0, 1))
        return torch.stack([torch.zeros_like(width), width, height, width, height])

    @torch.no_grad()
    def answers(self, outputs: Tensor) -> Tensor:
        """Return boxes and confidence ``[N, most, 5]`` by falling confidence; −1 throughout where there are fewer."""
        sure, found = self._read(outputs)
        chance, index = sure.sigmoid().sort(dim=1, descending=True, stable=True)
        chance, index = chance[:, : self.most], index[:, : self.most]
        found = found.gather(1, index.unsqueeze(-1).expand(-1, -1, 4))
        kept = chance >= self.surest
        overlaps = overlap(found[:, :, None], found[:, None])
        for k in range(kept.shape[1] - 1):
            kept[:, k + 1 :] &= ~((overlaps[:, k, k + 1 :] > self.suppress) & kept[:, k, None])
        boxes = torch.where(kept.unsqueeze(-1), torch.cat([found, chance.unsqueeze(-1)], dim=-1), -1.0)
        order = boxes[..., 4].argsort(dim=1, descending=True, stable=True)
        return boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 5))

    def followed(self, y: Tensor, moves: Tensor) -> Tensor:
        """Return boxes ``[N, K, D]`` of moved images, cut to the picture; −1 where less than `STILL_SEEN` of one is in it."""
        at = y[..., :4].unflatten(-1, (2, 2))  # [N, K, corner, column or row]
        factor, offset = (part[:, None, None] for part in moves.to(y.dtype).unbind(-1))
        moved = (at * factor + offset).sort(dim=2).values  # a mirrored box's left is where its right was
        least, most = torch.zeros_like(moved), torch.tensor(self.size[::-1], device=y.device, dtype=y.dtype)
        cut = torch.minimum(torch.maximum(moved, least), most.expand_as(moved))
        before, left = ((box[:, :, 1] - box[:, :, 0]).prod(dim=-1) for box in (moved, cut))
        seen = (y[..., 2] > y[..., 0]) & (left >= STILL_SEEN * before)
        return torch.where(seen.unsqueeze(-1), torch.cat([cut.flatten(2), y[..., 4:]], dim=-1), -1.0)

    def chances(self, outputs: Tensor) -> Tensor:
        sure = (outputs[:, :1] - PRIOR).sigmoid()
        return torch.cat([1 - sure, sure], dim=1)

    def smooth_answers(self, outputs: Tensor) -> Tensor:
        return torch.cat([self.chances(outputs), outputs[:, 1:5].clamp(-6, 6)], dim=1)  # sides by their logarithms

    def fault(self, y: np.ndarray) -> str:
        if y.ndim != 3 or y.shape[2] < 4 or not np.issubdtype(y.dtype, np.number):
            return f"they are {y.dtype} of shape {y.shape}; left, top, right and bottom, [rows, boxes, 4], are allowed"
        there = (y[..., :4] != -1).any(axis=2)
        if not there.any():
            return "no row has a box"
        left, top, right, bottom = np.moveaxis(y[..., :4], 2, 0)
        height, width = self.size
        good = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height) & (left < right) & (top < bottom)
        odd = np.argwhere(there & ~good)
        if len(odd):
            row, box = odd[0]
            found, within = y[row, box, :4].tolist(), f"{width} × {height}"
            return f"a box of row {row} is {found}; left < right and top < bottom within {within} are allowed"
        return ""

    def _read(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return confidences ``[N, P]`` as logits and boxes ``[N, P, 4]``."""
        x, rows, step_x, step_y = self._places(outputs)
        own = outputs[:, :5].flatten(2) if outputs.ndim > 2 else outputs[:, :5].unsqueeze(-1)
        left, top, right, bottom = own[:, 1:].clamp(-6, 6).exp().unbind(1)
        half_x, half_y = step_x / 2, step_y / 2
        boxes = (x - left * half_x, rows - top * half_y, x + right * half_x, rows + bottom * half_y)
        return own[:, 0] - PRIOR, torch.stack(boxes, dim=-1)

    def _places(self, outputs: Tensor) -> tuple[Tensor, Tensor, float, float]:
        """Return the places' columns and rows ``[P]`` in pixels, and how far apart they are."""
        rows, columns = outputs.shape[2:] if outputs.ndim > 2 else (1, 1)
        step_y, step_x = self.size[0] / rows, self.size[1] / columns
        at = [
            (torch.arange(count, device=outputs.device, dtype=outputs.dtype) + 0.5) * step
            for count, step in ((rows, step_y), (columns, step_x))
        ]
        return at[1].repeat(rows), at[0].repeat_interleave(columns), step_x, step_y


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the intersection over union of boxes ``[…, 4]`` that broadcast to each other, ``[…]``."""
    sides = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp_min(0)
    both = sides.prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp_min(0).prod(dim=-1) for box in (a, b)]
    return both / (areas[0] + areas[1] - both).clamp_min(1e-9)
