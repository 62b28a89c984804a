"""The extraction run: plan what is missing, hand shards to Ray, account for every image."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

import pyarrow.compute as pc
import ray
from ray.util.metrics import Counter as Count
from ray.util.metrics import Gauge

from lib.backbones.engines import Forms
from lib.backbones.kept import AnyBackbone
from lib.cores import usable_cores
from lib.datasets.captions import Captions
from lib.descriptors import store
from lib.descriptors.calibration import choose_forms
from lib.descriptors.comparison import without_version
from lib.descriptors.dispatch import Workers, dispatch
from lib.descriptors.head_start import Begun, HeadStart
from lib.descriptors.listing import BackgroundListing, ListedTable, list_source
from lib.descriptors.merging import merge_files
from lib.descriptors.naming import name_by_captions
from lib.descriptors.placement import Placement
from lib.descriptors.plan import ExtractionPlan, Pending, carry_out, make_plan, resolve
from lib.descriptors.shards import (
    LARGEST_GPU_SHARD,
    LARGEST_SHARD,
    ExtractionSettings,
    FailureLimit,
    Shard,
    ShardReport,
    cut_shards,
    suitable_shard_size,
)
from lib.descriptors.worker import BackbonePayload
from lib.errors import BadInputError, ConflictError, ImageSearchError
from lib.images.file_names import skipped_in_words, unreadable_ones
from lib.images.listed import rows_of, tabulate
from lib.images.reading import source_of
from lib.nodes import require_shared
from lib.progress import STAGES, Progress
from lib.schemas import Provenance, require_same
from lib.storage import absolute
from lib.tasks import run_on_workers

# So many are listed before the first of a listing that goes on are extracted: they must do to
# calibrate with, and be worth a comparison of their own.
_EARLY_IMAGES = 50_000


@dataclass
class Run:
    """What a run did; `listed` = the sum of the four counts of descriptors and failures."""

    listed: int = 0
    already_described: int = 0
    already_failed: int = 0
    changed: int = 0  # described again because size or version differ
    moved: int = 0  # the same file at another address or time: taken over, not described again
    repeated: int = 0  # listed more than once under the same path
    namesakes: int = 0  # at another address than the image whose name they were listed under
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

    def count(self, plan: ExtractionPlan, prune: bool) -> None:
        """Count what a comparison met; some of it may be what this run did before."""
        self.listed, self.changed, self.moved = plan.listed, plan.changed, plan.moved
        self.repeated, self.namesakes, self.removed = plan.repeated, plan.namesakes, plan.removed
        self.pruned = plan.removed if prune else 0
        self.already_described = plan.described - self.described
        self.already_failed = plan.failed - self.failed

    def add(self, report: ShardReport, limit: FailureLimit) -> None:
        """Count a finished shard. Raises ImageSearchError where failures exceed the limit."""
        self.described += report.described
        self.failed += report.failed
        self.shards += 1
        self.reasons += report.reasons
        for stage, spent in report.seconds.items():
            self.stage_seconds[stage] += spent
        if limit.exceeded(self.failed, self.described + self.failed):
            raise ImageSearchError(_too_many(self, report), vars(self))


def extract(
    images: str,
    db: str,
    backbone: AnyBackbone,
    settings: ExtractionSettings,
    captions: Sequence[Captions] = (),
    prune: bool = False,
    retry_failed: bool = False,
    limit: FailureLimit | None = None,
    head_start: HeadStart | None = None,
) -> Run:
    """Describe all images that `db` does not describe yet. Ray must be up.

    `head_start` of the same source and database ends here, and is counted.

    Ids that `captions` give to images, as COCO does, replace the source's own. Raises MismatchError
    where `db` holds descriptors of another origin, BadInputError where the source is empty,
    ImageSearchError where failures exceed `limit` or images are unaccounted for.
    """
    db = absolute(db)
    limit = limit or FailureLimit()
    begun = head_start.end() if head_start else Begun()
    there = store.provenance(db)
    backbone = backbone.seeing_as(there)
    settings = _as_before(db, there, backbone, settings)
    run, workers = Run(seconds=begun.seconds), None
    for report in begun.reports:
        run.add(report, limit)
    store.remove_leftovers(db)
    if captions or store.shard_states(db):
        listing = list_source(images, settings, run.skipped)
    else:
        listing, workers = _list_and_extract(images, db, backbone, settings, limit, run)
    parts: Iterable[ListedTable] = listing
    if captions:
        rows = rows_of(resolve(part.table) for part in listing)
        named = name_by_captions(rows, captions, images, db, run.notes)
        parts = map(ListedTable.of, tabulate(named))
    plan = make_plan(parts, db, prune, retry_failed and not run.shards, images)
    _require_images(images, plan.listed, run.skipped, prune)
    carry_out(plan)  # before anything is described anew, so that no image ever has two rows
    run.count(plan, prune)
    if plan.pending.count:
        workers = workers or _workers(plan.pending, db, backbone, settings, run, begun.forms)
        largest = _largest_shard(workers)
        size = settings.shard_size or suitable_shard_size(plan.pending.count, largest)
        shards = cut_shards(plan.pending, size)
        _extract_shards(shards, plan.pending.count, db, workers, limit, run)
    _account(run, db)
    if run.shards:
        with suppress(ConflictError):  # another run is at work: the next one merges
            merge_files(db, run=run_on_workers)
    return run


def _list_and_extract(
    images: str,
    db: str,
    backbone: AnyBackbone,
    settings: ExtractionSettings,
    limit: FailureLimit,
    run: Run,
) -> tuple[list[ListedTable], Workers | None]:
    """The listing of a source; images of a large one are extracted while it goes on.

    For a database without rows, and images whose version the source tells: only in lists of
    addresses may a name come twice. When the listing is complete it is compared with what is there
    by then, like any other, so that all are accounted for.
    """
    workers = None
    with closing(BackgroundListing(images, settings, run.skipped)) as listing:
        if not listing.watch(_EARLY_IMAGES):
            there = list(listing.tables.values())
            pending = Pending([part.table for part in there], [part.rows for part in there])
            workers = _workers(pending, db, backbone, settings, run)
            size = settings.shard_size or _largest_shard(workers)
            shards = _shards_as_they_come(listing, size)
            _extract_shards(shards, None, db, workers, limit, run, listing)
            listing.watch()
        return listing.result(), workers


def _shards_as_they_come(listing: BackgroundListing, size: int) -> Iterator[Shard | None]:
    """The shards of a listing until it ends, None where there is none just now."""
    position = 0
    while not listing.done:
        part = listing.take()
        if part is None:
            yield None
            continue
        table = resolve(part.table)
        table = table.filter(pc.invert(without_version(table)))
        for shard in cut_shards(enumerate(rows_of([table]), position), size):
            if listing.done:
                return
            yield shard
        position += len(table)


def _as_before(
    db: str, there: Provenance | None, backbone: AnyBackbone, settings: ExtractionSettings
) -> ExtractionSettings:
    """The settings with the fidelity of what is there. Raises MismatchError where they differ."""
    if there is not None:
        require_same(
            f"the descriptors in {db} and those asked for",
            there,
            backbone.provenance(settings.stored),
            "Use the same --backbone, --weights and --store-as, or another --db",
        )
    computed = store.computation(db)
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
    if prune and (unread := unreadable_ones(skipped)):
        raise BadInputError(
            f"{images} has {len(unread)} folders and archives whose images would be dropped as if "
            f"they were gone, such as {unread[0]}; repair them, or run without --prune"
        )


def _workers(
    pending: Pending,
    db: str,
    backbone: AnyBackbone,
    settings: ExtractionSettings,
    run: Run,
    forms: Forms | None = None,
) -> Workers:
    require_shared(source_of(pending.sample(1)[0].uri), written=db)
    placement = Placement(settings)
    print(placement, file=sys.stderr, flush=True)
    start = time.monotonic()
    if forms is None or placement.gpus:  # a head start has chosen for CPUs
        machines = ray.cluster_resources().get("CPU", 1.0) / usable_cores()
        machines *= not placement.gpus_alone
        forms = choose_forms(
            backbone,
            settings.fidelity,
            pending.count,
            machines,
            placement.gpus > 0,
            pending.sample,
        )
    network = forms.float32 is None or placement.gpus > 0
    payload = BackbonePayload.of(backbone, forms, with_network=network)
    run.preparation_seconds = time.monotonic() - start
    run.seconds += run.preparation_seconds
    return Workers(placement, payload)


def _largest_shard(workers: Workers) -> int:
    return LARGEST_GPU_SHARD if workers.placement.gpus else LARGEST_SHARD


def _extract_shards(
    shards: Iterator[Shard | None],
    total: int | None,
    db: str,
    workers: Workers,
    limit: FailureLimit,
    run: Run,
    listing: BackgroundListing | None = None,
) -> None:
    """Extract shards, those of `total` images or of a listing that goes on."""
    start = time.monotonic()
    before = run.described + run.failed
    metrics = _Metrics()
    more = (lambda: not listing.done) if listing else lambda: False
    with Progress(total) as progress:
        for report in dispatch(shards, db, workers, more):
            if report is None:
                progress.note = _note(run, listing)
                progress.show(workers.placement.waiting())
                continue
            run.add(report, limit)
            known = listing.rows if listing else total or 0
            metrics.add(report, known - (run.described + run.failed - before))
            progress.note = _note(run, listing)
            progress.advance(report.described + report.failed, report.failed)
    run.seconds += time.monotonic() - start


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


def _note(run: Run, listing: BackgroundListing | None) -> str:
    busy = sum(run.stage_seconds.values()) or 1.0
    shares = " ".join(f"{stage} {run.stage_seconds[stage] / busy:.0%}" for stage in STAGES)
    listed = f"{listing.rows:,} listed so far; " if listing else ""
    return f"{listed}{run.shards:,} shards; {shares}"


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
