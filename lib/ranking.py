"""Margin ranking loss and accuracy on triples of a caption, its good image and a bad one."""

from typing import Any

import torch

MARGIN = 0.1


def margin_ranking_loss(
    good: torch.Tensor, bad: torch.Tensor, margin: float = MARGIN
) -> torch.Tensor:
    """Mean of max(0, margin - (s_good - s_bad)) over triples.

    good, bad: cosines of the caption with its good and its bad image, shapes that broadcast.
    The same as torch.nn.MarginRankingLoss with target 1.
    """
    return torch.clamp(margin - (good - bad), min=0).mean()


def triple_accuracy(good: torch.Tensor, bad: torch.Tensor) -> float:
    """Share of the triples whose good image scores above the bad one; a tie counts as wrong."""
    return (good > bad).double().mean().item()


def in_batch_loss(scores: torch.Tensor, margin: float = MARGIN) -> torch.Tensor:
    """Margin ranking loss over all triples that a batch of pairs holds, in both directions.

    scores: (B, B) cosines, caption i with image j; the good pairs lie on the diagonal. Each caption
    meets every other image as its bad one, and each image every other caption ("sum of hinges",
    Kiros, Salakhutdinov and Zemel, 2014, arXiv:1411.2539). Returns the mean over 2·B·(B - 1).
    """
    return _SumOfHinges.apply(scores, margin)


class _SumOfHinges(torch.autograd.Function):
    """In few passes over the scores: autograd would take three times as long as the products."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, margin: float) -> torch.Tensor:
        pairs = len(scores)
        reach = scores.diagonal() - margin
        images = torch.sub(scores, reach[:, None]).relu_()
        captions = torch.sub(scores, reach[None, :]).relu_()
        # A pair against itself is no triple; it added the margin in both directions.
        total = images.sum() + captions.sum() - 2 * margin * pairs
        images.sign_()
        captions.sign_()
        active = images.sum(dim=1) + captions.sum(dim=0) - 2
        gradient = images.add_(captions)
        gradient.diagonal().copy_(-active)
        ctx.scale = 1 / max(1, 2 * pairs * (pairs - 1))
        ctx.save_for_backward(gradient)
        return total * ctx.scale

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return gradient * (outer * ctx.scale), None
