"""An encoder with a decoder: the decoder's mixtures go on from the encoder's mixtures, and heads alone get rows."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn

import muxwrap

ROWS, SOURCE, TARGET, DIM = 5, 9, 4, 16


def t5() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=50, d_model=DIM, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0
    )
    return transformers.T5ForConditionalGeneration(config).eval()


def call() -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = torch.ones(ROWS, SOURCE, dtype=torch.long)
    mask[1, 6:] = 0
    return {
        "input_ids": torch.randint(3, 50, (ROWS, SOURCE)),
        "attention_mask": mask,
        "decoder_input_ids": torch.randint(3, 50, (ROWS, TARGET)),
    }


def test_decoder_is_given_the_encoders_mixtures() -> None:
    backbone = t5()
    model = muxwrap.wrap(backbone, 2)
    given: list[Tensor] = []
    backbone.decoder.register_forward_pre_hook(
        lambda _module, _args, kwargs: given.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    output = model(**call())
    assert output.logits.shape == (ROWS, TARGET, 50)
    assert given[0].shape == (3, SOURCE, DIM)
    assert given[0] is output.encoder_last_hidden_state
    assert [site.path for site in model.sites.demux] == ["lm_head"]


def test_identity_of_one_instance_gives_the_bare_answers() -> None:
    backbone = t5()
    with torch.no_grad():
        bare = backbone(**call()).logits
        mixed = muxwrap.wrap(backbone, 1, "identity")(**call()).logits
    torch.testing.assert_close(mixed, bare)


def test_every_part_is_trained() -> None:
    model = muxwrap.wrap(t5(), 2).train()
    batch = call()
    model(batch["input_ids"], labels=batch["decoder_input_ids"]).loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_states_separated_before_the_decoder_are_refused() -> None:
    sites = {
        "mux_at": ["encoder.embed_tokens", "decoder.embed_tokens"],
        "demux_at": ["encoder.final_layer_norm", "lm_head"],
    }
    with pytest.raises(muxwrap.MuxwrapError, match=r"after the input of encoder\.final_layer_norm"):
        muxwrap.wrap(t5(), 2, **sites)(**call())
