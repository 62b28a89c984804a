import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from lib.service.deployment import ServiceSettings

ROOT = Path(__file__).parents[2]


def deployments() -> list[Any]:
    service = yaml.safe_load((ROOT / "deploy" / "rayservice.yaml").read_text())
    nodes = service["spec"]["rayClusterConfig"]
    head = nodes["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["env"] == nodes["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["env"]
    return [
        yaml.safe_load((ROOT / "serve_config.yaml").read_text()),
        yaml.safe_load(service["spec"]["serveConfigV2"]),
    ]


@pytest.mark.parametrize("index", [0, 1])
def test_the_configurations_are_what_ray_and_the_service_take(index: int) -> None:
    config = ServeDeploySchema.model_validate(deployments()[index])
    (application,) = config.applications
    module, _, name = application.import_path.partition(":")
    assert hasattr(sys.modules[module], name)
    ServiceSettings(**application.args)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--port", "0"], 2, "ports are 1 to 65535"),
        (["--max-replicas", "0"], 2, "at least one"),
        ([], 1, "run jobs.embed_database first"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    options: list[str], status: int, message: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "jobs.serve", "--db", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == status
    assert message in done.stderr
