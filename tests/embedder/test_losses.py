"""The loss against a hand-worked value and torch's own."""

import pytest
import torch

from lib.embedder.losses import in_batch_loss


def _all_triples(scores: torch.Tensor, margin: float) -> torch.Tensor:
    """Every triple of a batch, through torch's loss and autograd."""
    count = len(scores)
    other = ~torch.eye(count, dtype=torch.bool)
    good = scores.diagonal()[:, None].expand(count, count)[other]
    loss = torch.nn.MarginRankingLoss(margin=margin)
    one = torch.ones(len(good))
    return (loss(good, scores[other], one) + loss(good, scores.T[other], one)) / 2


@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("count", [2, 3, 50])
def test_in_batch_loss_and_its_gradient_are_those_of_all_triples(count: int, margin: float) -> None:
    torch.manual_seed(0)
    sums = (torch.randn(count, 8) * 3).requires_grad_()
    texts = torch.nn.functional.normalize(torch.randn(count, 8), dim=1)
    expected = _all_triples(texts @ torch.nn.functional.normalize(sums, dim=1).T, margin)
    (slope,) = torch.autograd.grad(expected, sums)
    loss = in_batch_loss(sums, texts, margin)
    (loss * 3).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert sums.grad is not None
    torch.testing.assert_close(sums.grad, 3 * slope)


def test_loss_by_hand() -> None:
    texts = torch.eye(2)
    sums = torch.tensor([[3.0, 4.0], [0.0, 2.0]])  # cosines 0.6 and 0.8, 0 and 1
    # max(0, 0.1 - 0.6 + 0), max(0, 0.1 - 1 + 0.8); the other way max(0, 0.1 - 0.6 + 0.8),
    # max(0, 0.1 - 1 + 0)
    assert in_batch_loss(sums, texts, 0.1).item() == pytest.approx(0.3 / 4)


def test_a_batch_of_one_pair_holds_no_triple() -> None:
    sums = torch.tensor([[0.3, 0.4]], requires_grad=True)
    loss = in_batch_loss(sums, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0
    assert sums.grad is not None
    assert not sums.grad.any()
