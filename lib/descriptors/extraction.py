"""The extraction run: plan what is missing, hand shards to Ray, account for every image."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import ray
from ray.util.metrics import Counter as Count
from ray.util.metrics import Gauge

from lib.cluster import run_on_workers
from lib.cores import usable_cores
from lib.datasets.captions import Captions
from lib.descriptors import store
from lib.descriptors.backbones import Backbone
from lib.descriptors.dispatch import dispatch
from lib.descriptors.engines import Forms, pictures_needed, prepare
from lib.descriptors.listing import ListedTable, list_source
from lib.descriptors.merging import merge_files
from lib.descriptors.naming import name_by_captions
from lib.descriptors.placement import Placement
from lib.descriptors.plan import ExtractionPlan, Pending, carry_out, make_plan, resolve
from lib.descriptors.shards import (
    ExtractionSettings,
    FailureLimit,
    ShardReport,
    cut_shards,
    suitable_shard_size,
)
from lib.descriptors.worker import BackbonePayload
from lib.errors import BadInputError, ConflictError, ImageSearchError
from lib.images.decoding import ImageError
from lib.images.file_names import UNREADABLE, skipped_in_words
from lib.images.listing import ListedImage, rows_of, tabulate
from lib.images.preprocessing import Preprocessing, decode
from lib.images.reading import read_image
from lib.progress import STAGES, Progress
from lib.schemas import Provenance, require_same
from lib.storage import absolute


@dataclass
class Run:
    """What a run did; `listed` = the sum of the four counts of descriptors and failures."""

    listed: int = 0
    already_described: int = 0
    already_failed: int = 0
    changed: int = 0  # described again because size or version differ
    moved: int = 0  # the same file at another address or time: taken over, not described again
    repeated: int = 0  # listed more than once under the same path
    removed: int = 0  # in the database, but listed no longer
    pruned: int = 0
    described: int = 0
    failed: int = 0
    shards: int = 0
    seconds: float = 0.0
    preparation_seconds: float = 0.0  # of these, until workers had a network to compute with
    reasons: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)  # not listed, by kind
    notes: list[str] = field(default_factory=list)  # on captions that name no image, or several
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    def add(self, report: ShardReport) -> None:
        """Count a finished shard."""
        self.described += report.described
        self.failed += report.failed
        self.shards += 1
        self.reasons += report.reasons
        for stage, spent in report.seconds.items():
            self.stage_seconds[stage] += spent


def extract(
    images: str,
    db: str,
    backbone: Backbone,
    settings: ExtractionSettings,
    captions: Sequence[Captions] = (),
    prune: bool = False,
    retry_failed: bool = False,
    limit: FailureLimit | None = None,
) -> Run:
    """Describe all images that `db` does not describe yet. Ray must be up.

    Ids that `captions` give to images, as COCO does, replace the source's own. Raises MismatchError
    where `db` holds descriptors of another origin, BadInputError where the source is empty,
    ImageSearchError where failures exceed `limit` or images are unaccounted for.
    """
    db = absolute(db)
    there = store.provenance(db)
    backbone = backbone.seeing_as(there)
    settings = _as_before(db, there, backbone, settings)
    skipped: Counter[str] = Counter()
    listing = list_source(images, settings, skipped)
    notes: list[str] = []
    store.remove_leftovers(db)
    if captions:
        rows = rows_of(resolve(part.table) for part in listing)
        named = name_by_captions(rows, captions, images, db, notes)
        listing = map(ListedTable.of, tabulate(named))
    plan = make_plan(listing, db, prune, retry_failed)
    _require_images(images, plan.listed, skipped, prune)
    carry_out(plan)  # before anything is described anew, so that no image ever has two rows
    run = Run(
        listed=plan.listed,
        already_described=plan.described,
        already_failed=plan.failed,
        changed=plan.changed,
        moved=plan.moved,
        repeated=plan.repeated,
        removed=plan.removed,
        pruned=plan.removed if prune else 0,
        skipped=skipped,
        notes=notes,
    )
    start = time.monotonic()
    if plan.pending.count:
        _describe(plan, db, backbone, settings, limit or FailureLimit(), run)
    run.seconds = time.monotonic() - start
    _account(run, db)
    if run.shards:
        with suppress(ConflictError):  # another run is at work: the next one merges
            merge_files(db, run=run_on_workers)
    return run


def _as_before(
    db: str, there: Provenance | None, backbone: Backbone, settings: ExtractionSettings
) -> ExtractionSettings:
    """The settings with the fidelity of what is there. Raises MismatchError where they differ."""
    if there is not None:
        require_same(
            f"the descriptors in {db} and those asked for",
            there,
            backbone.provenance(settings.stored),
            "Use the same --backbone, --weights and --store-as, or another --db",
        )
    computed = store.computation(db) if there is not None else None
    fidelity = settings.fidelity or (computed.fidelity if computed else "fast")
    if computed is not None:
        require_same(
            f"the precision of the descriptors in {db} and that asked for",
            computed.fidelity,
            fidelity,
            "Leave out --precision, or use another --db",
        )
    return replace(settings, fidelity=fidelity)


def _require_images(images: str, listed: int, skipped: Counter[str], prune: bool) -> None:
    """Raise BadInputError where there are none, or where some would be pruned for no reason."""
    if not listed:
        besides = f"; besides: {skipped_in_words(skipped)}" if skipped else ""
        raise BadInputError(f"{images} holds no image{besides}")
    if prune and skipped[UNREADABLE]:
        raise BadInputError(
            f"{images} has {skipped[UNREADABLE]} {UNREADABLE}: their images would be dropped as if "
            "they were gone; repair them, or run without --prune"
        )


def _describe(
    plan: ExtractionPlan,
    db: str,
    backbone: Backbone,
    settings: ExtractionSettings,
    limit: FailureLimit,
    run: Run,
) -> None:
    placement = Placement(settings)
    print(placement, file=sys.stderr, flush=True)
    start = time.monotonic()
    payload = BackbonePayload.of(backbone, _forms(plan.pending, backbone, settings))
    run.preparation_seconds = time.monotonic() - start
    metrics = _Metrics()
    size = settings.shard_size or suitable_shard_size(plan.pending.count)
    shards = cut_shards(plan.pending, size)
    with Progress(plan.pending.count) as progress:
        for report in dispatch(shards, db, payload, placement):
            if report is None:
                progress.show(placement.waiting())
                continue
            run.add(report)
            metrics.add(report, plan.pending.count - run.described - run.failed)
            progress.note = _note(run)
            progress.advance(report.described + report.failed, report.failed)
            if limit.exceeded(run.failed, run.described + run.failed):
                raise ImageSearchError(_too_many(run, report), vars(run))


def _forms(pending: Pending, backbone: Backbone, settings: ExtractionSettings) -> Forms:
    """What workers compute with, made and judged with some of the images that are to be done."""
    cores = ray.cluster_resources().get("CPU", 1.0) / usable_cores()
    fidelity = settings.fidelity or "fast"
    needed = pictures_needed(fidelity, pending.count, cores)
    images = pending.sample(needed)
    if needed:
        print(f"looking for the fastest arithmetic with {len(images)} images", file=sys.stderr)
    with ThreadPoolExecutor() as pool:
        tried = pool.map(partial(_try_picture, backbone.preprocessing), images)
        pictures = [picture for picture in tried if picture is not None]
    start = time.monotonic()
    forms = prepare(backbone, fidelity, pictures)
    if needed:
        print(f"{forms}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return forms


def _try_picture(preprocessing: Preprocessing, image: ListedImage) -> np.ndarray | None:
    try:
        pixels = decode(read_image(image), preprocessing).pixels
    except ImageError:
        return None
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


class _Metrics:
    """The run on Ray's dashboard and at its Prometheus endpoint, see docs/cluster.md."""

    def __init__(self) -> None:
        self.images = Count("images_extracted", "images that have a descriptor now")
        self.failures = Count("images_failed", "images without, by reason", ("reason",))
        self.seconds = Count("extraction_seconds", "by stage, over all threads", ("stage",))
        self.waiting = Gauge("images_waiting", "images without descriptor or failure yet")

    def add(self, report: ShardReport, waiting: int) -> None:
        """Count a finished shard; `waiting` images are left."""
        self.waiting.set(waiting)
        if report.described:
            self.images.inc(report.described)
        for reason, count in report.reasons.items():
            self.failures.inc(count, {"reason": reason})
        for stage, seconds in report.seconds.items():
            if seconds > 0:
                self.seconds.inc(seconds, {"stage": stage})


def _note(run: Run) -> str:
    busy = sum(run.stage_seconds.values()) or 1.0
    shares = " ".join(f"{stage} {run.stage_seconds[stage] / busy:.0%}" for stage in STAGES)
    return f"{run.shards:,} shards; {shares}"


def _too_many(run: Run, report: ShardReport) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in run.reasons.most_common())
    return (
        f"{run.failed} of {run.described + run.failed} images failed ({reasons}), more than "
        f"--max-failures allows; the last was {report.example}. What is described is kept; "
        "repair the source and run again with --retry-failed"
    )


def _account(run: Run, db: str) -> None:
    """Raise unless the database has exactly one row for every image."""
    descriptors, failures = store.count_rows(db)
    expected = run.listed + run.removed - run.pruned
    if descriptors + failures != expected:
        raise ImageSearchError(
            f"{expected} images should be in {db}, but it has {descriptors} descriptors and "
            f"{failures} failures. Another run may be writing there; run the job again"
        )
