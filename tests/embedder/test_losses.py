"""The loss and the accuracy against hand-worked values and torch's own."""

import pytest
import torch

from lib.embedder.losses import in_batch_loss, margin_ranking_loss, triple_accuracy


def test_loss_by_hand() -> None:
    good = torch.tensor([0.9, 0.5, 0.2])
    bad = torch.tensor([0.1, 0.45, 0.6])
    # max(0, 0.1 - 0.8) = 0, max(0, 0.1 - 0.05) = 0.05, max(0, 0.1 + 0.4) = 0.5
    assert margin_ranking_loss(good, bad, 0.1).item() == pytest.approx(0.55 / 3)


def test_loss_is_torchs_margin_ranking_loss() -> None:
    good, bad = torch.rand(2, 1000) * 2 - 1
    expected = torch.nn.MarginRankingLoss(margin=0.1)(good, bad, torch.ones(1000))
    assert margin_ranking_loss(good, bad, 0.1).item() == pytest.approx(expected.item())


def test_accuracy_by_hand() -> None:
    good, bad = torch.tensor([0.9, 0.5, 0.2, 0.3]), torch.tensor([0.1, 0.45, 0.6, 0.3])
    assert triple_accuracy(good, bad) == 0.5  # the tie is wrong


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
    found = in_batch_loss(sums, texts, margin)
    (found * 3).backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    assert sums.grad is not None
    torch.testing.assert_close(sums.grad, 3 * slope)


def test_a_batch_of_one_pair_holds_no_triple() -> None:
    sums = torch.tensor([[0.3, 0.4]], requires_grad=True)
    loss = in_batch_loss(sums, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == 0
    assert sums.grad is not None
    assert not sums.grad.any()
