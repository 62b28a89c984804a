"""Margin ranking loss on triples of a caption, its good image and a bad one."""

from typing import Any

import torch

from lib.embedder.collectives import gather_rows, world
from lib.embedder.triples import MARGIN


def in_batch_loss(sums: torch.Tensor, texts: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Margin ranking loss over all triples that a batch of pairs holds, in both directions.

    sums: (n, d), what the dense layer gives for this worker's images, not normalised; texts: (n, d)
    unit, text i describing image i. The batch is the B pairs of all workers, each giving as many.
    Each caption meets every other image as its bad one, and each image every other caption ("sum of
    hinges", Kiros, Salakhutdinov and Zemel, 2014, arXiv:1411.2539). Returns this worker's part of
    the mean over 2·B·(B - 1) triples: values and gradients sum over the workers to those of the
    mean.
    """
    return _SumOfHinges.apply(sums, texts, margin)


class _SumOfHinges(torch.autograd.Function):
    """Value and gradient in one go, in two (B, B) arrays.

    While the same hinges stay active, the loss is linear in the scores s_ij of caption i and
    image j. Its slope by s_ij is 0, 1 or 2: the number of active ones of the hinges of caption i
    (s_ij against s_ii) and of image j (s_ij against s_jj); by s_ii it is minus the number of active
    hinges of caption i and image i. So what is left are matrix products.
    """

    @staticmethod
    def forward(ctx: Any, sums: torch.Tensor, texts: torch.Tensor, margin: float) -> torch.Tensor:
        norms = torch.linalg.vector_norm(sums, dim=1, keepdim=True).clamp_min_(1e-12)
        images = sums / norms
        texts = gather_rows(texts)
        scores = texts @ gather_rows(images).T
        reach = scores.diagonal() - margin
        ones = torch.ones_like(reach)
        slope = torch.empty_like(scores)
        torch.gt(scores, reach[:, None], out=slope).fill_diagonal_(0)
        active = slope @ ones
        hinges_of_images = torch.gt(scores, reach, out=scores).fill_diagonal_(0)
        active += ones @ hinges_of_images
        slope += hinges_of_images
        slope.diagonal().copy_(-active)
        first = world()[0] * len(sums)
        own = slice(first, first + len(sums))
        scale = 1 / max(1, 2 * len(texts) * (len(texts) - 1))
        gradient = slope[:, own].T @ texts
        along = (gradient * images).sum(dim=1, keepdim=True)
        # Only what is perpendicular to an image changes its direction.
        ctx.save_for_backward(gradient.addcmul_(along, images, value=-1).mul_(scale / norms))
        return (along.sum() + margin * active[own].sum()) * scale

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None
