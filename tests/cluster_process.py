"""A Ray as clusters are: a head without work of its own, two nodes, and a token that it demands."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import free_port

ROOT = Path(__file__).parents[1]
NODES = """
import json, sys, tempfile
from ray.cluster_utils import Cluster

dashboard, agent, client = map(int, sys.argv[1:])
head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": dashboard}
head["ray_client_server_port"] = client  # as `ray start --head` has it
# Another Ray on this machine, as that of the tests, has the agent's usual port already.
head["dashboard_agent_listen_port"] = agent
cluster = Cluster(initialize_head=True, head_node_args=head)
disks = [tempfile.TemporaryDirectory(ignore_cleanup_errors=True) for _ in range(2)]
for disk in disks:
    # A directory each, as on machines of their own: otherwise each node unpacks the working
    # directory anew over the one that the job already runs in.
    cluster.add_node(num_cpus=1, temp_dir=disk.name)
print(json.dumps(cluster.address), flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@dataclass(frozen=True)
class RunningCluster:
    address: str
    dashboard: str
    client: int  # port of the server for `ray://`
    environment: Mapping[str, str]  # of who has the cluster's token at hand
    process: psutil.Process  # above all of the nodes'

    def run(self, *command: object, timeout: float, **environment: str) -> str:
        """Run a Python command, which must succeed; returns all that it printed."""
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout


@contextmanager
def run_cluster() -> Iterator[RunningCluster]:
    """Start the nodes; what the environment says now, of a store for example, holds on them."""
    ours = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment = ours | {"RAY_AUTH_TOKEN": uuid.uuid4().hex}
    dashboard, agent, client = free_port(), free_port(), free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", NODES, str(dashboard), str(agent), str(client)],
        env={**environment, "RAY_AUTH_MODE": "token"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        address = json.loads(next(line for line in process.stdout if line.startswith('"')))
        url = f"http://127.0.0.1:{dashboard}"
        yield RunningCluster(address, url, client, environment, psutil.Process(process.pid))
    finally:
        process.communicate(timeout=60)
