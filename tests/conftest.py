"""What holds for all tests."""

from hypothesis import settings

# How long an example takes depends on what else the machine does. The same commit is tested on the same examples, so
# that a failure is the change's own; `pytest -m hypothesis --hypothesis-profile explore` looks for new ones.
settings.register_profile("plait", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, derandomize=False, max_examples=1000)
settings.load_profile("plait")
