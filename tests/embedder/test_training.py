"""Training learns, repeats, resumes, and gives one result for any number of workers."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from gensim.models import KeyedVectors
from torch.multiprocessing.spawn import spawn

from lib.datasets.captions import CaptionedImage, Captions, held_out, select
from lib.descriptors.store import descriptor_files
from lib.embedder.dataset import Examples, Standardisation, TrainingData, fit_text_side
from lib.embedder.fitting import FitSettings, FitState, begin, fit, gain_of_ranking
from lib.embedder.losses import in_batch_loss
from lib.embedder.metrics import caption_ranks, recall
from lib.embedder.model import Embedder
from lib.embedder.preparation import prepare
from lib.embedder.seen import training_rows
from lib.embedder.space import load_semantic_space, save_semantic_space
from lib.embedder.training import train
from lib.embedder.training_log import write_curves
from lib.errors import BadArgumentError, BadInputError, MissingError
from lib.parquet import read_table, write_table_atomic
from lib.storage import filesystem, join, read_bytes
from lib.text.word_vectors import word_vectors_digest
from tests import toy_world
from tests.cluster_process import RunningCluster
from tests.embedder.gradient_of_two import batch, gradient_of_two
from tests.run_job import run_job

CPU = torch.device("cpu")
PROJECT = Path(__file__).parents[2]


def _data(
    descriptors: np.ndarray, captions: Captions, rejoin: bool = False
) -> tuple[TrainingData, Examples]:
    """Training data of three quarters of a toy world, and its last quarter as test captions."""
    images = sorted(captions.images, key=int)
    test = set(images[3 * len(images) // 4 :])
    apart = held_out(set(images) - test, 0.2)
    text = fit_text_side(select(captions, set(images) - test).texts, toy_world.word_vectors())
    parts = []
    for part in (set(images) - test - apart, apart, test):
        chosen = select(captions, part)
        rows = np.array([int(image) for image in chosen.image_ids])
        parts.append(Examples(text.embed(chosen.texts), rows, np.arange(len(rows))))
    read = lambda rows: descriptors[rows]  # noqa: E731
    training, validation, unseen = parts
    standardisation = Standardisation.of(descriptors)
    return TrainingData(training, validation, read, standardisation, rejoin), unseen


def _test_recall(data: TrainingData, test: Examples, state: FitState) -> float:
    embeddings = Embedder(state["M"].numpy(), state["b"].numpy()).se_image(data.read(test.images))
    ranks = caption_ranks(test.texts, embeddings, np.searchsorted(test.images, test.rows))
    return recall(ranks, 10)


@pytest.fixture(scope="module")
def toy() -> tuple[TrainingData, Examples]:
    return _data(*toy_world.world(800))


def test_training_ranks_unseen_images_well(toy: tuple[TrainingData, Examples]) -> None:
    data, test = toy
    state = fit(data, FitSettings(epochs=5), CPU)
    assert _test_recall(data, test, state) > 0.8  # chance is 0.1
    epochs = [row["epoch"] for row in state["history"]]
    assert epochs == list(range(len(epochs)))
    assert {"loss", "validation_recall@10", "validation_triple_accuracy"} <= state["history"][
        1
    ].keys()


def test_a_seed_makes_a_run_repeatable(toy: tuple[TrainingData, Examples]) -> None:
    data, _ = toy
    first, again, other = (fit(data, FitSettings(epochs=3, seed=seed), CPU) for seed in (1, 1, 2))
    assert torch.equal(first["M"], again["M"])
    losses = [[row["loss"] for row in state["history"][1:]] for state in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_going_on_from_a_checkpoint_gives_the_uninterrupted_result(
    toy: tuple[TrainingData, Examples], tmp_path: Path
) -> None:
    data, _ = toy
    settings = FitSettings(epochs=6, patience=6, batch_size=64)

    def keep(state: FitState) -> None:
        torch.save(state, tmp_path / f"{len(state['history'])}.pt")

    whole = fit(data, settings, CPU, after_epoch=keep)
    half = torch.load(tmp_path / "3.pt", weights_only=True)
    resumed = fit(data, settings, CPU, half)
    assert torch.equal(whole["M"], resumed["M"])
    losses = [[row["loss"] for row in state["history"]] for state in (whole, resumed)]
    assert losses[0] == losses[1]


def test_what_chose_the_idf_is_the_start_of_ranking(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(200)
    toy_world.write_database(str(tmp_path), descriptors)
    training, unseen = (select(captions, {*map(str, p)}) for p in (range(80), range(80, 200)))
    prepared = prepare(str(tmp_path), training, unseen, toy_world.word_vectors(), rejoin=False)
    data, settings = prepared.data, FitSettings(epochs=2, batch_size=64)
    assert prepared.judged
    handed = fit(data, settings, CPU, begin(data, settings, CPU, prepared.judged))
    anew = fit(data, settings, CPU)
    assert torch.equal(handed["M"], anew["M"])
    assert handed["chosen"] == anew["chosen"]
    for one, other in zip(handed["history"], anew["history"], strict=True):
        assert one | {"time": 0} == other | {"time": 0}


@pytest.mark.slow
def test_ranking_is_kept_where_it_helps() -> None:
    """Outliers in the descriptors mislead squared errors, not rankings."""
    descriptors, captions = toy_world.world(1200, noise=2.0)
    rng = np.random.default_rng(0)
    descriptors *= rng.choice([1, 1, 1, 40], size=(1200, 1)).astype(np.float32)
    data, test = _data(descriptors, captions)
    closed = fit(data, FitSettings(epochs=0), CPU)
    ranked = fit(data, FitSettings(batch_size=128), CPU)
    assert closed["chosen"]["method"] == "closed form"
    assert ranked["chosen"]["method"] == "ranking"
    assert ranked["chosen"]["validation_gain"] > 0
    assert _test_recall(data, test, ranked) > _test_recall(data, test, closed)


def test_ranking_is_dropped_where_it_does_not_help(toy: tuple[TrainingData, Examples]) -> None:
    data, _ = toy
    closed = fit(data, FitSettings(epochs=0), CPU)
    spoilt = fit(data, FitSettings(epochs=3, learning_rate=10.0), CPU)
    assert spoilt["chosen"]["method"] == "closed form"
    assert torch.equal(closed["M"], spoilt["M"])


def test_the_best_epoch_on_the_images_that_chose_it_is_no_gain() -> None:
    """Thirty epochs of pure noise: the best looks better than the first, and is not."""
    rng = np.random.default_rng(0)
    flattering, gains = [], []
    for _ in range(200):
        epochs = 0.5 + 0.1 * rng.normal(size=(31, 100))
        flattering.append((epochs - epochs[0]).mean(axis=1).max())
        gains.append(gain_of_ranking(epochs))
    assert np.mean(flattering) > 0.02
    assert abs(np.mean([gain for gain, _ in gains])) < 0.004
    assert np.mean([gain > 2 * error for gain, error in gains]) <= 0.06
    better = np.concatenate([np.zeros((1, 100)), np.full((1, 100), 0.1)])
    assert gain_of_ranking(better) == pytest.approx((0.1, 0))


def test_few_validation_images_decide_nothing() -> None:
    data, _ = _data(*toy_world.world(300))
    assert len(data.validation.images) < 100
    state = fit(data, FitSettings(), CPU)
    assert [row["epoch"] for row in state["history"]] == [0]
    assert state["chosen"]["method"] == "closed form"


def test_a_prior_stays_where_captions_are_too_few_to_judge() -> None:
    descriptors, captions = toy_world.world(400)
    data, test = _data(descriptors, captions)
    truth = fit(data, FitSettings(epochs=0), CPU)
    prior = truth["M"].numpy() @ np.linalg.inv(truth["whitening"].numpy())
    few = data.training.images[:5]
    kept = np.isin(data.training.rows, few)
    part = Examples(data.training.texts[kept], data.training.rows[kept], np.arange(kept.sum()))
    helped = replace(data, training=part, validation=Examples(*_nothing()), prior=prior)
    assert _test_recall(data, test, fit(helped, FitSettings(), CPU)) == pytest.approx(
        _test_recall(data, test, truth), abs=0.08
    )
    bare = replace(helped, prior=None)
    assert _test_recall(data, test, fit(bare, FitSettings(), CPU)) < 0.5


def test_images_that_the_job_held_out_join_the_closed_form() -> None:
    descriptors, captions = toy_world.world(160)
    apart, _ = _data(descriptors, captions)
    joined, _ = _data(descriptors, captions, rejoin=True)
    every = apart.training + apart.validation
    everything = replace(apart, training=every, validation=Examples(*_nothing()))
    expected = fit(everything, FitSettings(epochs=0), CPU)
    assert torch.equal(fit(joined, FitSettings(epochs=0), CPU)["M"], expected["M"])
    assert not torch.equal(fit(apart, FitSettings(epochs=0), CPU)["M"], expected["M"])


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, toy_world.DIMENSION), np.float32), np.zeros(0, int), np.zeros(0, int)


def test_a_constant_descriptor_value_does_no_harm() -> None:
    descriptors, captions = toy_world.world(200)
    plain, test = _data(descriptors, captions)
    constant = np.concatenate([descriptors, np.full((200, 2), 7.5, np.float32)], axis=1)
    data, _ = _data(constant, captions)
    expected = fit(plain, FitSettings(epochs=0), CPU)
    state = fit(data, FitSettings(epochs=0), CPU)
    assert not state["M"][-2:].any()
    assert _test_recall(data, test, state) == pytest.approx(_test_recall(plain, test, expected))


@pytest.mark.long
@pytest.mark.slow
def test_two_workers_sum_to_the_gradient_of_one(tmp_path: Path) -> None:
    spawn(gradient_of_two, (str(tmp_path),), nprocs=2)
    inputs, texts = batch()
    layer = torch.nn.Linear(6, 4, bias=False)
    torch.nn.init.constant_(layer.weight, 0.3)
    in_batch_loss(layer(inputs), texts).backward()
    torch.testing.assert_close(torch.load(tmp_path / "gradient.pt"), layer.weight.grad)


WORLD = range(400), range(400, 520), range(520, 600)  # images of training, validation and test


@pytest.mark.long
@pytest.mark.usefixtures("ray_local")
def test_two_workers_give_the_result_of_one(s3_bucket: str, tmp_path: Path) -> None:
    job, report = _two_workers(f"{s3_bucket}/db", tmp_path)
    _is_the_result_of_one(f"{s3_bucket}/db", tmp_path, report, "".join(run_job(*job)))


@pytest.mark.chaos
def test_two_workers_of_which_one_is_killed_give_the_result_of_one(
    cluster: RunningCluster, s3_bucket: str, tmp_path: Path
) -> None:
    """On a cluster joined from outside with its token at hand."""
    (name, *options), report = _two_workers(f"{s3_bucket}/db", tmp_path)
    killer = threading.Thread(target=_kill_a_worker, args=(f"{s3_bucket}/db",))
    killer.start()
    job = ("-m", f"jobs.{name}", *options)
    printed = cluster.run(*job, timeout=500, RAY_ADDRESS=cluster.address)
    killer.join()
    _is_the_result_of_one(f"{s3_bucket}/db", tmp_path, report, printed)


def _two_workers(db: str, folder: Path) -> tuple[list[Any], Path]:
    """A toy world's database, the job that trains on it with two workers, and its report."""
    descriptors, captions = toy_world.world(600)
    toy_world.write_database(db, descriptors)
    training, validation, _ = (select(captions, {str(n) for n in part}) for part in WORLD)
    job: list[Any] = ["train_embedder", "--db", db, "--workers", 2, *_inputs(folder, training)]
    job += ["--validation-captions", _captions_file(folder / "validation.csv", validation)]
    report = folder / "report.json"
    return [*job, "--epochs", 6, "--patience", 6, "--json", report], report


def _is_the_result_of_one(db: str, folder: Path, report_file: Path, printed: str) -> None:
    descriptors, captions = toy_world.world(600)
    training, validation, test = (select(captions, {str(n) for n in part}) for part in WORLD)
    report = json.loads(report_file.read_text())
    history = report["history"]
    assert [row["epoch"] for row in history] == list(range(7))
    prepared = prepare(db, training, validation, toy_world.word_vectors(), rejoin=False)
    alone = fit(prepared.data, FitSettings(epochs=6, patience=6), CPU)
    for figure in ("validation_recall@10", "validation_ndcg"):
        assert history[0][figure] == pytest.approx(alone["history"][0][figure], abs=0.02)
        assert history[-1][figure] == pytest.approx(alone["history"][-1][figure], abs=0.05)
    space = load_semantic_space(db, str(folder / "toy.txt"))
    ranks = caption_ranks(
        space.text.embed(test.texts),
        space.se_image(descriptors[list(WORLD[2])]),
        np.array([int(image) - WORLD[2].start for image in test.image_ids]),
    )
    assert recall(ranks, 10) > 0.7
    fs, path = filesystem(f"{db}/embedder")
    written = {Path(file).name for file in fs.ls(path, detail=False)}
    files = {"embedder.npz", "training_images.parquet", "metrics.csv", "training.png"}
    assert written == files | {"tensorboard"}
    assert training_rows(db, report["digest"], prepared.index).tolist() == list(range(400))
    assert _epochs_done(db) == 7
    assert "epoch 6 of at most 6" in printed


def test_curves_are_those_of_the_last_run_and_one_point_is_none(tmp_path: Path) -> None:
    epochs = [{"epoch": n, "loss": 1.0 - n, "time": 100.0 + n} for n in range(3)]
    curves = {"training.png", "events.out.tfevents.training"}
    for history, expected in ((epochs, curves), (epochs[:1], set()), ([], set())):
        write_curves(str(tmp_path), history)
        assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == expected


def _captions_file(path: Path, captions: Captions) -> Path:
    rows = zip(captions.image_ids, captions.texts, strict=True)
    table = pd.DataFrame([(f"{image}.jpg", text) for image, text in rows])
    table.to_csv(path, index=False, header=["image", "caption"])
    return path


def _inputs(directory: Path, training: Captions) -> list[object]:
    """The options that name training captions and the toy world's words, in files."""
    toy_world.word_vectors().save_word2vec_format(str(directory / "toy.txt"), write_header=False)
    captions = _captions_file(directory / "captions.csv", training)
    return ["--captions", captions, "--word-vectors", directory / "toy.txt"]


def _epochs_done(db: str) -> int:
    try:
        return len(pd.read_csv(io.BytesIO(read_bytes(join(db, "embedder", "metrics.csv")))))
    except (MissingError, ValueError):
        return 0


def _kill_a_worker(db: str) -> None:
    """SIGKILL one of this test's Ray Train workers once two epochs are done."""
    deadline = time.monotonic() + 600
    while _epochs_done(db) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(_train_workers_below(os.getpid())[0], signal.SIGKILL)


def _train_workers_below(ancestor: int) -> list[int]:
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(
                    (entry / "stat").read_text().rsplit(")")[-1].split()[1]
                )
                names[int(entry.name)] = (entry / "cmdline").read_text()
            except OSError:
                continue

    def descends(process: int) -> bool:
        while process > 1 and process != ancestor:
            process = parents.get(process, 0)
        return process == ancestor

    return [pid for pid, name in names.items() if "RayTrainWorker" in name and descends(pid)]


@pytest.mark.chaos
@pytest.mark.ray
def test_a_killed_job_goes_on_where_it_was(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(1400)
    db = toy_world.write_database(tmp_path / "db", descriptors)
    job_of = ["-m", "jobs.train_embedder", "--db", db, *_inputs(tmp_path, captions)]
    job_of += ["--epochs", 30, "--patience", 30, "--json", tmp_path / "report.json"]
    command = [sys.executable, *map(str, job_of)]
    # A group of its own, so that Ray's processes die with the job.
    job = subprocess.Popen(command, cwd=PROJECT, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while _epochs_done(db) < 4:
            assert job.poll() is None
            assert time.monotonic() < deadline, "four epochs are not done in time"
            time.sleep(0.05)
    finally:
        killed = time.time()
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
    assert not (tmp_path / "db" / "embedder" / "embedder.npz").exists()
    subprocess.run(command, cwd=PROJECT, check=True, timeout=500)
    history: list[dict[str, Any]] = json.loads((tmp_path / "report.json").read_text())["history"]
    assert [row["epoch"] for row in history] == list(range(31))
    assert sum(row["time"] < killed for row in history) >= 3


@pytest.mark.slow
def test_another_collections_embedder_is_the_start(tmp_path: Path) -> None:
    """With no caption, and with those of a few images, on a collection that has no class names."""
    descriptors, captions = toy_world.world(420)
    vectors = toy_world.word_vectors()
    elsewhere = toy_world.write_database(tmp_path / "elsewhere", descriptors[:300])
    here = toy_world.write_database(tmp_path / "here", descriptors)
    images = sorted(captions.images, key=int)
    test = select(captions, set(images[320:]))
    prepared = prepare(elsewhere, select(captions, set(images[:300])), None, vectors, True)
    state = fit(prepared.data, FitSettings(), CPU)
    embedder = Embedder(state["M"].numpy(), state["b"].numpy())
    metadata = {
        "descriptors": vars(toy_world.provenance()),
        "word_vectors": {
            "source": "toy",
            "digest": word_vectors_digest(vectors),
            "dimension": toy_world.DIMENSION,
        },
    }
    whitening = state["whitening"].numpy()
    save_semantic_space(elsewhere, prepared.text, embedder, metadata, whitening)
    with pytest.raises(MissingError, match=r"--captions FILE.*--start DB_OR_FILE"):
        train(here, None, None, vectors, "toy", FitSettings(), True)
    alone = train(here, None, None, vectors, "toy", FitSettings(), True, start=elsewhere)
    assert alone.metadata["chosen"]["method"] == "prior alone"
    assert _recall_of(here, descriptors, test, vectors) > 0.8
    few = select(captions, set(images[300:320]))
    prepared = prepare(here, few, None, vectors, True, start=elsewhere)
    state = fit(prepared.data, FitSettings(), CPU)
    helped = Embedder(state["M"].numpy(), state["b"].numpy())
    save_semantic_space(here, prepared.text, helped, metadata)
    assert _recall_of(here, descriptors, test, vectors) > 0.8
    bare = prepare(here, few, None, vectors, True)
    assert bare.data.prior is None
    state = fit(bare.data, FitSettings(), CPU)
    unhelped = Embedder(state["M"].numpy(), state["b"].numpy())
    save_semantic_space(here, bare.text, unhelped, metadata)
    assert _recall_of(here, descriptors, test, vectors) < 0.8


def _recall_of(db: str, descriptors: np.ndarray, test: Captions, vectors: KeyedVectors) -> float:
    """recall@10 of captions among the images that they describe."""
    space = load_semantic_space(db, vectors)
    rows = np.array([int(image) for image in test.image_ids])
    images, places = np.unique(rows, return_inverse=True)
    ranks = caption_ranks(space.text.embed(test.texts), space.se_image(descriptors[images]), places)
    return recall(ranks, 10)


def test_captions_that_say_nothing_new_are_refused_or_merged(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(40)
    db = toy_world.write_database(tmp_path / "db", descriptors)
    vectors = toy_world.word_vectors()
    same = replace(captions, texts=["the thing1"] * len(captions))
    with pytest.raises(BadInputError, match=r"all 40 captions of toy captions say the same"):
        prepare(db, same, None, vectors, True)
    doubled = replace(captions, image_ids=captions.image_ids * 2, texts=captions.texts * 2)
    once = prepare(db, captions, None, vectors, True)
    twice = prepare(db, doubled, None, vectors, True)
    assert twice.data.training.repeated == once.data.training.repeated + len(captions)
    assert np.array_equal(twice.data.training.rows, once.data.training.rows)


def test_what_cannot_be_trained_is_refused_clearly(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(20)
    vectors = toy_world.word_vectors()
    none = select(captions, set())
    with pytest.raises(MissingError, match=r"run jobs\.extract_descriptors first"):
        prepare(str(tmp_path / "empty"), captions, none, vectors, False)
    db = toy_world.write_database(tmp_path / "db", descriptors)
    strangers = Captions(
        [f"x{image}" for image in captions.image_ids],
        captions.texts,
        {f"x{image}": captioned for image, captioned in captions.images.items()},
        "strangers.json",
    )
    elsewhere = {image: CaptionedImage(f"{image}.png") for image in strangers.images}
    renamed = Captions(strangers.image_ids, strangers.texts, elsewhere, "strangers.json")
    with pytest.raises(BadInputError, match=r"no captions for any image.*strangers\.json"):
        prepare(db, renamed, none, vectors, False)
    with pytest.raises(BadInputError, match="share 20 images"):
        prepare(db, captions, captions, vectors, False)
    with pytest.raises(BadInputError, match="two images or more"):
        prepare(db, select(captions, {"3"}), none, vectors, False)
    # Found by the file's name where the id is unknown.
    examples = prepare(db, strangers, none, vectors, False).data.training
    assert len(examples.rows) + examples.repeated == len(captions)


def test_captions_of_absent_images_and_unknown_words_are_counted(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(40)
    db = toy_world.write_database(tmp_path / "db", descriptors[:30])
    texts = ["blorp quux", *captions.texts[1:]]
    changed = Captions(captions.image_ids, texts, captions.images, "toy")
    prepared = prepare(db, changed, select(captions, set()), toy_world.word_vectors(), False)
    assert prepared.data.training.absent == 30
    assert prepared.data.training.wordless == 1
    assert len(prepared.data.training.rows) + prepared.data.training.repeated == 89
    assert prepared.data.training.captions[0] == 1


def test_images_held_out_may_all_be_others_than_the_collections(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(40)
    db = toy_world.write_database(tmp_path / "db", descriptors[:30])
    strangers = select(captions, set(map(str, range(30, 40))))
    training = select(captions, set(map(str, range(30))))
    data = prepare(db, training, strangers, toy_world.word_vectors(), rejoin=True).data
    assert (len(data.validation.rows), data.validation.absent) == (0, 30)
    with pytest.raises(BadInputError, match="no captions for any image"):  # those that were given
        prepare(db, training, strangers, toy_world.word_vectors(), rejoin=False)


def _write_digests(db: str, distinct: int) -> None:
    """Of images from `distinct` on: those of the first ones, whose copies they are."""
    for file in descriptor_files(db):
        table = read_table(file)
        numbers = [int(image) % distinct for image in table["image_id"].to_pylist()]
        digests = pa.array([f"digest{number}" for number in numbers])
        column = table.schema.get_field_index("digest")
        write_table_atomic(table.set_column(column, table.schema.field(column), digests), file)


@pytest.mark.parametrize("rejoin", [False, True])
def test_no_copy_of_a_training_image_judges(rejoin: bool, tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(50)
    db = toy_world.write_database(tmp_path / "db", descriptors)
    _write_digests(db, 40)
    training = select(captions, set(map(str, range(30))))
    validation = select(captions, set(map(str, range(30, 50))))
    prepared = prepare(db, training, validation, toy_world.word_vectors(), rejoin)
    ids, examples = prepared.index.ids_of, prepared.data.training
    assert set(ids(prepared.data.validation.images)) == set(map(str, range(30, 40)))
    assert set(ids(examples.images)) == set(map(str, range(30)))
    assert prepared.copies == (0 if rejoin else 10)
    # Where the captions of copies are of the same file they teach what they are copies of.
    of_both = [text for i in (0, 40) for text in captions.by_image()[str(i)]]
    taught = of_both if rejoin else of_both[: len(of_both) // 2]
    assert np.sum(ids(examples.rows) == np.array("0")) == len({*taught})


def test_copies_among_training_images_are_one_image(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(40)
    once = toy_world.write_database(tmp_path / "once", descriptors[:20])
    twice = toy_world.write_database(tmp_path / "twice", descriptors)
    _write_digests(twice, 20)
    few = select(captions, set(map(str, range(20))))
    alone = prepare(once, few, None, toy_world.word_vectors(), rejoin=False).data.training
    copies = Captions([str(int(image) + 20) for image in few.image_ids], few.texts, captions.images)
    both = prepare(twice, few + copies, None, toy_world.word_vectors(), rejoin=False).data.training
    assert both.rows.tolist() == alone.rows.tolist()
    assert both.repeated == alone.repeated + len(few)


def test_no_workers_is_a_bad_argument(tmp_path: Path) -> None:
    descriptors, captions = toy_world.world(20)
    db = toy_world.write_database(tmp_path / "db", descriptors)
    with pytest.raises(BadArgumentError, match="--workers must be 1 or more"):
        train(
            db,
            captions,
            select(captions, set()),
            toy_world.word_vectors(),
            "toy",
            FitSettings(),
            False,
            workers=0,
        )
