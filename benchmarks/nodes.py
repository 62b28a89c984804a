"""A cluster as users have one, small enough for a laptop: from pictures on S3 to an answer.

python -m benchmarks.nodes [--images 100000] [--backbone test_vit --weights random] [--json FILE]

Three nodes on this machine (a head without CPUs, two of one CPU), a token, and an S3 server
(`benchmarks.s3`) that counts what it is asked. From another directory the pipeline is submitted; a
node is lost when a third of the shards are written, and another one comes. The same command has
nothing to do, then one image; then `serve deploy`, and a query. What must hold is checked. A small
network leaves the machine to what is measured here; its classes have no names, so that the packaged
network looks at some of the images to teach the embedder.
"""

import io
import json
import multiprocessing
import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import numpy as np
import psutil
import yaml
from PIL import Image

import benchmarks
from benchmarks.s3 import KINDS, SIZES, running
from lib.database.opening import open_database
from lib.datasets.sample.composing import compose
from lib.descriptors.shards import suitable_shard_size
from lib.service.launcher import own_proxy
from lib.storage import write_bytes_atomic

ROOT = Path(__file__).parents[1]
PHOTOS, DB = "s3://photos", "s3://search/db"
DESCRIPTORS = "PUT /search/db/descriptors/*.parquet"  # by these names the server counts
VERSIONS = "PUT /search/db/versions/*.json"
SCENES, SIDE = 24, 128  # drawn, from which all pictures are cut; pixels
QUERY = "a dog on the grass"
SPAWN = multiprocessing.get_context("spawn")


def run_nodes(dashboard: int, orders: Connection) -> None:
    """The cluster: says that it is up, then loses a node and adds one, as it is told."""
    from ray.cluster_utils import Cluster

    # Another Ray of this machine may have the agent's usual port.
    head = {"dashboard_port": dashboard, "dashboard_agent_listen_port": benchmarks.free_port()}
    cluster = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": True} | head)
    disks, nodes = [], []

    def add() -> None:
        # A directory each, as on machines of their own.
        disks.append(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        nodes.append(cluster.add_node(num_cpus=1, temp_dir=disks[-1].name))

    def lose() -> None:
        raylet = psutil.Process(nodes[-1].all_processes["raylet"][0].process.pid)
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()
        cluster.remove_node(nodes.pop(), allow_graceful=False)

    add()
    add()
    orders.send("up")
    while (order := orders.recv()) != "end":
        {"lose": lose, "add": add}[order]()
        orders.send(order)
    cluster.shutdown()


@contextmanager
def three_nodes(dashboard: int) -> Iterator[Callable[[str], None]]:
    """The cluster, in a process of its own; gives what sends it an order and waits."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=run_nodes, args=(dashboard, theirs))
    process.start()
    theirs.close()

    def order(what: str) -> None:
        ours.send(what)
        assert ours.recv() == what

    try:
        assert ours.recv() == "up"
        yield order
    finally:
        with suppress(BrokenPipeError):
            ours.send("end")
        process.join(120)


def jpeg(number: int, scenes: list[Image.Image]) -> bytes:
    """A picture of its own: a square of one of the scenes, in a light of its own."""
    draw = np.random.default_rng(number)
    scene = scenes[draw.integers(len(scenes))]
    side = int(draw.integers(min(scene.size) // 2, min(scene.size)))
    left, top = (int(draw.integers(room - side + 1)) for room in scene.size)
    square = scene.resize((SIDE, SIDE), box=(left, top, left + side, top + side))
    lit = np.clip(np.asarray(square) * draw.uniform(0.7, 1.2, 3), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(lit).save(file, "jpeg", quality=85, comment=f"{number}")
    return file.getvalue()


class Account:
    """The table: seconds, S3's requests and bytes of each step; and what happened within it."""

    def __init__(self, counts: Callable[[], Counter[str]]) -> None:
        self.counts, self.rows, self.start = counts, list[dict[str, Any]](), 0.0
        print("| step | s | images/s |", " | ".join(KINDS), "| MB read | MB written |")
        print("| --- " + "| ---: " * (len(KINDS) + 4) + "|", flush=True)

    @contextmanager
    def step(self, name: str, images: int = 0) -> Iterator[None]:
        """Measure the block, and print a line of the table."""
        self.rows.append({"step": name, "images": images, "notes": []})
        before, self.start = self.counts(), time.perf_counter()
        yield
        seconds = time.perf_counter() - self.start
        counts = self.counts() - before
        self.rows[-1] |= {"seconds": seconds, **{name: counts[name] for name in (*KINDS, *SIZES)}}
        sizes = (f"{counts[size] / 1e6:,.1f}" for size in SIZES)
        rate = f"{images / seconds:,.1f}" if images else ""
        requests = (f"{counts[kind]:,}" for kind in KINDS)
        print("|", " | ".join([name, f"{seconds:,.1f}", rate, *requests, *sizes]), "|", flush=True)

    def note(self, text: str) -> None:
        """Something that has just happened in the step."""
        self.rows[-1]["notes"].append(f"{time.perf_counter() - self.start:,.1f} s: {text}")


class User:
    """Who sits elsewhere, in a directory that has nothing to do with the project."""

    def __init__(self, directory: Path, cluster: str, backbone: dict[str, str]) -> None:
        self.directory, self.cluster, self.backbone = directory, cluster, backbone

    def run(self, *command: str, meanwhile: Callable[[], bool] = lambda: True) -> str:
        """What a command prints, which must succeed; asks `meanwhile` until that is true."""
        log = self.directory / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=self.directory, stdout=file, stderr=file)
            happened = False
            while process.poll() is None:
                happened = happened or meanwhile()
                time.sleep(0.1)
        if process.returncode or not (happened or meanwhile()):
            raise SystemExit(f"{shlex.join(command)}: {log.read_text()[-6000:]}")
        return log.read_text()

    def pipeline(self, images: int, meanwhile: Callable[[], bool] = lambda: True) -> str:
        """Submit the job as docs/cluster.md does; every image must be in its account."""
        submit = ["ray", "job", "submit", "--address", self.cluster, "--working-dir", str(ROOT)]
        job = ["python", "-m", "jobs.pipeline", "--images", PHOTOS, "--db", DB]
        for option, value in self.backbone.items():
            job += [f"--{option}", value]
        printed = self.run(*submit, "--", *job, meanwhile=meanwhile)
        account = f"inputs {images:,} = descriptors {images:,} + failures 0"
        assert account in printed, printed[-3000:]
        return printed

    def deploy(self, port: int, within_s: float = 600) -> None:
        """`serve deploy` of serve_config.yaml with this database, until it answers."""
        config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
        config["proxy_location"] = "HeadOnly"  # these nodes share one address
        config["http_options"]["port"] = port
        weights = self.backbone.get("weights")
        config["applications"][0]["args"] |= {"db": DB, "weights": weights}
        file = self.directory / "serve_config.yaml"
        file.write_text(yaml.safe_dump(config))
        self.run("serve", "deploy", "--address", self.cluster, str(file))
        until = time.monotonic() + within_s
        while True:
            try:
                with urlopen(f"http://127.0.0.1:{port}/health", timeout=10):
                    return
            except OSError:
                if time.monotonic() > until:
                    print(self.run("serve", "status", "--address", self.cluster))
                    raise
                time.sleep(0.2)

    def compare(self, answer: dict[str, Any]) -> None:
        """The service's answer is that of `jobs.query`."""
        file = self.directory / "answers.json"
        self.run(*f"python -m jobs.query --db {DB} --k 10 --output {file}".split(), QUERY)
        hits, offline = (it["results"][0]["hits"] for it in (answer, json.loads(file.read_text())))
        assert len(hits) == len(offline) == 10
        for hit, other in zip(hits, offline, strict=True):
            assert hit["image_id"] == other["image_id"], (hit, other)
            assert abs(hit["score"] - other["score"]) < 1e-3, (hit, other)  # the API rounds


def check_database(images: int) -> None:
    """Every image can be searched, once."""
    ids = open_database(DB).image_ids
    assert len(ids) == len(set(ids)) == images, f"{len(ids)} rows, {len(set(ids))} ids"


def measure(
    images: int, backbone: dict[str, str], directory: Path, account: Account, port: int
) -> None:
    """All steps, in order."""
    scenes = [compose(0, index)[1] for index in range(SCENES)]

    def put(number: int) -> None:
        name = f"{number // 1000:03d}/{number:06d}.jpg"
        write_bytes_atomic(f"{PHOTOS}/{name}", jpeg(number, scenes))

    with account.step("draw and put the images", images), ThreadPoolExecutor(8) as pool:
        deque(pool.map(put, range(images)), 0)
    dashboard = benchmarks.free_port()
    with three_nodes(dashboard) as order:
        user = User(directory, f"http://127.0.0.1:{dashboard}", backbone)

        def lose() -> bool:
            if account.counts()[DESCRIPTORS] * 3 < -(-images // suitable_shard_size(images)):
                return False
            for what, said in (("lose", "a node is lost"), ("add", "another one is there")):
                order(what)
                account.note(said)
            return True

        with account.step("the pipeline, a node lost", images):
            printed = user.pipeline(images, lose)
        account.rows[-1]["notes"] += re.findall(r"described .*", printed)
        check_database(images)
        with account.step("the same command again"):
            user.pipeline(images)
        put(images)
        versions = account.counts()[VERSIONS]

        def committed() -> bool:
            if account.counts()[VERSIONS] == versions:
                return False
            account.note("the version is committed")
            return True

        with account.step("one image more"):
            user.pipeline(images + 1, committed)
        check_database(images + 1)
        with account.step("serve deploy, until it answers"):
            user.deploy(port)
        address = f"http://127.0.0.1:{port}/search?q={quote(QUERY)}&k=10"
        with account.step("a query over HTTP"), urlopen(address, timeout=60) as answer:
            answered = json.load(answer)
        user.compare(answered)


def main() -> None:
    """Run all of it, and print the table."""
    arguments = benchmarks.parser(__doc__ or "")
    arguments.add_argument("--images", type=int, default=100_000)
    arguments.add_argument("--backbone", default="efficientnet_lite0", help="default: packaged")
    arguments.add_argument("--weights", help="the backbone's, as in extraction")
    options = arguments.parse_args()
    backbone = {"backbone": options.backbone}
    if options.weights:
        backbone["weights"] = options.weights
    port = benchmarks.free_port()
    os.environ.pop("RAY_ADDRESS", None)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # What serve_config.yaml asks of nodes; and `python` is the one that runs this.
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(ROOT / "lib" / "service" / "haproxy.py"),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    # The ports of a proxy that no other service of this machine has.
    with (
        own_proxy("127.0.0.1", port),
        running(*(urlsplit(url).netloc for url in (PHOTOS, DB))) as counts,
        tempfile.TemporaryDirectory() as directory,
    ):
        account = Account(counts)
        measure(options.images, backbone, Path(directory), account, port)
    print(
        "", *(f"{row['step']}: {note}" for row in account.rows for note in row["notes"]), sep="\n"
    )
    benchmarks.write_json(options.json, account.rows)


if __name__ == "__main__":
    main()
