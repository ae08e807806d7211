"""A job survives being shipped: through Beam's job service to workers in other processes, with the same bytes."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus import digests, small_params, write_corpus

from pipelines.align import align
from pipelines.augment import augment
from pipelines.clean import clean
from pipelines.embed import embed
from pipelines.ingest import ingest
from pipelines.params import Params

_START_S = 60


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s:
        assert process.poll() is None, "the service ended before it listened"
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                return
        process.poll()
    raise AssertionError(f"nothing listens on port {port} after {_START_S} s")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[list[str]]:
    """Beam's job service and an external worker pool, in a folder of their own; yields the options that name them."""
    job_port, pool_port = _free_port(), _free_port()
    commands = [
        [
            "apache_beam.runners.portability.local_job_service_main",
            f"--port={job_port}",
            f"--staging_dir={tmp_path / 'staging'}",
        ],
        ["apache_beam.runners.worker.worker_pool_main", f"--service_port={pool_port}"],
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with open(tmp_path / "services.log", "wb") as log:
        running = [
            subprocess.Popen([sys.executable, "-m", *command], cwd=elsewhere, stdout=log, stderr=log)
            for command in commands
        ]
        try:
            for port, process in zip((job_port, pool_port), running, strict=True):
                _wait_for(port, process)
            yield [
                f"--job_endpoint=localhost:{job_port}",
                "--environment_type=EXTERNAL",
                f"--environment_config=localhost:{pool_port}",
            ]
        finally:
            for process in running:
                process.terminate()
                process.wait(timeout=30)


def _clean_and_embed(params: Params, shipped: Params, data: Path) -> dict[str, str]:
    """clean and embed with the shipped parameters, the stages around them locally."""
    ingest(params.ingest, data / "ingest", params.beam)
    clean(params.clean, data / "ingest", data / "clean", shipped.beam)
    align(params.align, data / "clean", data / "align", params.beam)
    augment(params.augment, data / "align", data / "augment", params.beam)
    embed(params.embed, [data / "align", data / "augment"], data / "features", shipped.beam, ingest=data / "ingest")
    return {name: digest for name, digest in digests(data).items() if name.startswith(("clean/", "features/"))}


def test_clean_and_embed_give_the_same_bytes_through_the_job_service(
    tmp_path: Path, services: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "recordings")
    monkeypatch.chdir(tmp_path)
    local = small_params(Path("recordings"))
    shipped = small_params(Path("recordings"), beam__runner="PortableRunner", beam__options=services)
    expected = _clean_and_embed(local, local, tmp_path / "local")
    assert _clean_and_embed(local, shipped, tmp_path / "shipped") == expected
