"""Features: what one is, where it is kept, and how it is read back.

store = features.open("data/features")
store.get(["rec7/0003"], "image")
"""

from features.store import Store
from features.store import open_store as open  # noqa: A004  # features.open() reads as it should; nothing here opens a plain file

__all__ = ["Store", "open"]
