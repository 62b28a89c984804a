"""Margin ranking loss and accuracy on triples of a caption, its good image and a bad one."""

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
    good = scores.diagonal()
    bad_image = torch.clamp(margin - good[:, None] + scores, min=0)
    bad_caption = torch.clamp(margin - good[None, :] + scores, min=0)
    # A pair against itself gives the margin, in both directions.
    pairs = len(scores)
    total = (bad_image + bad_caption).sum() - 2 * margin * pairs
    return total / max(1, 2 * pairs * (pairs - 1))
