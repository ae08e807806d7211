"""What holds for all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes depends on what else the machine does. The same commit is tested on the same examples, so
# that a failure is the change's own; `pytest -m hypothesis --hypothesis-profile explore` looks for new ones.
settings.register_profile("plait", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=1000)
settings.load_profile("plait")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--simulate-gpu", action="store_true", help="have a simulated GPU do what tests ask of the CPU")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "no_simulated_gpu: is about the CPU alone, or has GPUs of its own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--simulate-gpu"):
        for item in items:
            if item.get_closest_marker("no_simulated_gpu"):
                item.add_marker(pytest.mark.skip(reason="is about the CPU alone, or has GPUs of its own"))


@pytest.fixture(scope="session", autouse=True)
def _simulated_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    if not request.config.getoption("--simulate-gpu"):
        yield
        return
    from simulated_gpu import simulated_gpus

    from features.encoders.network import NetworkEncoder

    load = NetworkEncoder.load
    with pytest.MonkeyPatch.context() as patch, simulated_gpus(2) as gpus:
        # The second, for what forgets to say which goes to the first.
        patch.setattr(NetworkEncoder, "load", lambda encoder, _device: load(encoder, "cuda:1"))
        yield
        assert gpus.launched, "no encoder was loaded on the simulated GPU"
