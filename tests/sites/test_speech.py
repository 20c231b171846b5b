"""Speech models: floats with a mask, which the example need not have."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn

import muxwrap

SOUNDS = torch.randn(5, 400, generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(400) < torch.tensor([400, 200, 300, 250, 350])[:, None]).long()


def backbone(name: str) -> nn.Module:
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=16,
        num_labels=3,
        mask_time_prob=0.0,
    )
    return getattr(transformers, f"{name}ForSequenceClassification")(config).eval()


def logits(model: nn.Module, mask: Tensor | None) -> Tensor:
    return model(input_values=SOUNDS, attention_mask=mask).logits


@pytest.mark.parametrize("name", ["Wav2Vec2", "Hubert"])
@pytest.mark.parametrize("told", [True, False])
def test_a_mask_is_used_whether_the_example_had_one_or_not(name: str, told: bool) -> None:
    bare = backbone(name)
    example = {"input_values": SOUNDS, **({"attention_mask": MASK} if told else {})}
    sites = muxwrap.find_sites(bare, example)
    assert sites.masked
    expected = [logits(bare, mask) for mask in (MASK, None)]
    one = muxwrap.wrap(bare, 1, "identity", "unbind", sites=sites).eval()
    torch.testing.assert_close([logits(one, mask) for mask in (MASK, None)], expected)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, sites=sites).eval()
    assert logits(model, MASK).shape == logits(model, None).shape == (5, 3)
    assert not torch.allclose(logits(model, MASK), logits(model, None), atol=1e-4)
