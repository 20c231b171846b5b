"""Sites are found where float32 products are rounded, as accelerators do in TensorFloat-32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from nets import batch, make
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import muxwrap
from muxwrap.sites.runs.rounding import Rounding

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "convolution"}
LENGTH = 7


class TensorFloat32(TorchDispatchMode):
    """Rounds what products are given to 10 bits, after a change of the last bits where another kernel would run.

    That is here for four rows and not for two or three, so that batches of those sizes do not show it.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.partition("::")[2] in PRODUCTS:
            args = tuple(self._rounded(x) if isinstance(x, Tensor) and x.dtype == torch.float32 else x for x in args)
        return func(*args, **(kwargs or {}))

    def _rounded(self, x: Tensor) -> Tensor:
        changed = x * (1 + 3e-7) if x.shape[0] in (4, 4 * LENGTH) else x
        mantissa, exponent = torch.frexp(changed)
        return torch.ldexp((mantissa * 2**11).round() / 2**11, exponent)


@pytest.mark.parametrize("name", ["mlp", "cnn", "tagger"])
def test_sites_are_the_same(name: str) -> None:
    exact = muxwrap.find_sites(make(name), batch(name, 2))
    with TensorFloat32():
        assert muxwrap.find_sites(make(name), batch(name, 2)) == exact


def test_masked_text_needs_the_wider_bound() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 40}
    sizes |= {"num_hidden_layers": 6, "num_attention_heads": 4, "num_labels": 3}
    torch.manual_seed(4)
    config = transformers.BertConfig(**sizes, initializer_range=0.2)
    model = transformers.BertForSequenceClassification(config)
    ids = torch.randint(1, 60, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    exact = muxwrap.find_sites(model, ids)
    with TensorFloat32():
        assert muxwrap.find_sites(model, ids) == exact
        assert Rounding().coarse(torch.zeros(1))
    assert not Rounding().coarse(torch.zeros(1))
    assert Rounding().coarse(torch.zeros(1).half()) and not Rounding().coarse(torch.zeros(1).double())
