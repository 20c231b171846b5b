"""The vision study, on files of a few images in the publishers' formats."""

from __future__ import annotations

import pytest

for needed in ("timm", "torchvision", "transformers", "tqdm", "matplotlib"):
    pytest.importorskip(needed)
