"""Ranks, recall and intervals against hand-worked values and brute force."""

from math import comb

import numpy as np
import pytest

from lib.embedder.metrics import (
    bootstrap_interval,
    caption_ranks,
    chance_recall,
    evaluate_retrieval,
    gains,
    recall,
    retrieval_report,
)


def test_ranks_by_hand() -> None:
    images = np.eye(3)
    texts = np.array([[0.9, 0.3, 0.1], [0.5, 0.2, 0.8], [0.1, 0.7, 0.6]])
    ranks = evaluate_retrieval(texts, images, np.array([0, 1, 2]))
    # Caption 1 (row 1) scores 0.5, 0.2, 0.8: its image is last.
    assert ranks.caption_to_image.tolist() == [1, 3, 2]
    # Image 1's column is 0.3, 0.2, 0.7: its caption is last; image 2's is 0.1, 0.8, 0.6: second.
    assert ranks.image_to_caption.tolist() == [1, 3, 2]
    assert recall(ranks.caption_to_image, 2) == pytest.approx(2 / 3)
    assert gains(ranks.caption_to_image).mean() == pytest.approx((1 + 1 / 2 + 1 / np.log2(3)) / 3)


def test_an_image_counts_its_best_caption() -> None:
    images = np.eye(2)
    texts = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    ranks = evaluate_retrieval(texts, images, np.array([0, 0, 1]))
    assert ranks.image_to_caption.tolist() == [1, 2]


def test_giving_all_images_the_same_embedding_ranks_like_chance() -> None:
    images = np.ones((9, 2)) / np.sqrt(2)
    ranks = evaluate_retrieval(images, images, np.arange(9))
    assert ranks.caption_to_image.tolist() == [5.0] * 9
    assert recall(ranks.caption_to_image, 1) == 0


def test_ranks_over_several_chunks_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    texts, images = rng.normal(size=(2500, 8)), rng.normal(size=(1500, 8))
    rows = rng.integers(0, 1400, 2500)  # the last images have no caption
    ranks = evaluate_retrieval(texts, images, rows)
    scores = texts @ images.T
    good = scores[np.arange(2500), rows]
    assert np.array_equal(ranks.caption_to_image, 1 + (scores > good[:, None]).sum(axis=1))
    for image in (0, 7, 1399):
        own = rows == image
        best = scores[own, image].max() if own.any() else None
        expected = 0 if best is None else 1 + (scores[:, image] > best).sum()
        assert ranks.image_to_caption[image] == expected
    assert not ranks.image_to_caption[1400:].any()


def test_bootstrap_interval_meets_the_normal_one_for_independent_groups() -> None:
    rng = np.random.default_rng(1)
    values = (rng.random(2000) < 0.3).astype(float)
    low, high = bootstrap_interval(values, np.arange(2000))
    half = 1.96 * np.sqrt(0.3 * 0.7 / 2000)
    assert values.mean() - low == pytest.approx(half, rel=0.15)
    assert high - values.mean() == pytest.approx(half, rel=0.15)


def test_bootstrap_draws_images_not_captions() -> None:
    rng = np.random.default_rng(2)
    values = np.repeat((rng.random(400) < 0.5).astype(float), 5)
    groups = np.repeat(np.arange(400), 5)
    together = np.ptp(bootstrap_interval(values, groups))
    apart = np.ptp(bootstrap_interval(values, np.arange(2000)))
    assert together == pytest.approx(apart * np.sqrt(5), rel=0.2)


def test_report_of_perfect_embeddings() -> None:
    images = np.eye(12)
    report = retrieval_report(np.repeat(images, 2, axis=0), images, np.repeat(np.arange(12), 2))
    for direction in ("caption_to_image", "image_to_caption"):
        assert report[direction]["recall@1"] == 1
        assert report[direction]["median_rank"] == 1
        assert report[direction]["recall@1_interval"] == (1, 1)
    assert report["triple_accuracy"] == 1
    assert (report["captions"], report["images"]) == (24, 12)


def test_caption_ranks_do_not_depend_on_the_order_of_images() -> None:
    rng = np.random.default_rng(3)
    texts, images, rows = rng.normal(size=(40, 6)), rng.normal(size=(20, 6)), np.arange(40) % 20
    order = rng.permutation(20)
    place = np.argsort(order)
    assert np.array_equal(
        caption_ranks(texts, images, rows), caption_ranks(texts, images[order], place[rows])
    )


@pytest.mark.slow
def test_coco_protocols_are_five_folds_of_a_thousand_and_all_five_thousand() -> None:
    rng = np.random.default_rng(4)
    images = rng.normal(size=(5000, 8)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    rows = np.arange(5000)
    texts = images + 0.3 * rng.normal(size=(5000, 8)).astype(np.float32)
    report = retrieval_report(texts, images, rows, seed=9)
    # The folds by hand: the seed's permutation, cut in five.
    order = np.random.default_rng(9).permutation(5000)
    recalls = []
    for fold in range(5):
        gallery = order[fold * 1000 : fold * 1000 + 1000]
        asked = np.flatnonzero(np.isin(rows, gallery))
        assert len(asked) == 1000
        scores = texts[asked] @ images[gallery].T
        good = np.take_along_axis(scores, (rows[asked][:, None] == gallery).argmax(1)[:, None], 1)
        recalls.append(np.mean((scores > good).sum(axis=1) < 10))
    assert report["coco_1k"]["recall@10"] == pytest.approx(np.mean(recalls))
    assert 0 < report["coco_5k"]["recall@10"] < report["coco_1k"]["recall@10"] < 1
    for figure in ("recall@1", "recall@5", "recall@10", "median_rank"):
        assert report["coco_5k"][figure] == pytest.approx(report["caption_to_image"][figure])


def test_fewer_than_five_thousand_images_have_no_coco_protocol() -> None:
    images = np.eye(20)
    assert "coco_1k" not in retrieval_report(images, images, np.arange(20))


def test_chance_at_every_k_counts_all_the_right_ones() -> None:
    curve = chance_recall(6, np.array([1, 3]))
    one, three = ([1 - comb(6 - r, k) / comb(6, k) for k in range(1, 7)] for r in (1, 3))
    np.testing.assert_allclose(curve, np.mean([one, three], axis=0))


def test_chance_is_the_recall_of_a_random_order() -> None:
    rng = np.random.default_rng(0)
    rows = np.array([0, 0, 0, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    drawn = [
        retrieval_report(rng.normal(size=(12, 9)), rng.normal(size=(8, 9)), rows)
        for _ in range(200)
    ]
    for name in ("caption_to_image", "image_to_caption"):
        for k in (1, 5, 10):
            mean = np.mean([report[name][f"recall@{k}"] for report in drawn])
            assert drawn[0][name][f"recall@{k}_chance"] == pytest.approx(mean, abs=0.03)
