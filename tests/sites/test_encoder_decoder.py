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


class Masked(nn.Module):
    """Ids of two languages through ``nn.Transformer``, with masks of what is padding in either, and no look ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(30, 16), nn.Embedding(30, 16)
        self.net = nn.Transformer(16, 2, 1, 1, 32, 0.0, batch_first=True)
        self.out = nn.Linear(16, 30)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        ahead = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
        masks = dict.fromkeys(("src_key_padding_mask", "memory_key_padding_mask"), source == 0)
        h = self.net(
            self.source(source), self.target(target), tgt_mask=ahead, tgt_key_padding_mask=target == 0, **masks
        )
        return self.out(h)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("length", [8, 10])
def test_a_mask_of_what_is_given_second_is_known_as_such(length: int) -> None:
    torch.manual_seed(0)
    source, target = torch.randint(1, 30, (5, 10)), torch.randint(1, 30, (5, length))
    one = muxwrap.wrap(Masked().eval(), 1, example_input=(source[:1], target[:1]))
    torch.testing.assert_close(one(source, target), one.backbone(source, target))
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=(source[:1], target[:1])).eval()
    assert [site.path for site in model.sites.mux] == ["source", "target"]
    assert {side.kind for side in model.sites.sides} == {"padding"}
    source[1, 7:], target[1, 6:] = 0, 0  # of rows that share a mixture
    seen: dict[str, Tensor] = {}
    model.backbone.net.register_forward_pre_hook(lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True)
    assert model(source, target).shape == (5, length, 30)
    for name, ids in (("src_key_padding_mask", source), ("tgt_key_padding_mask", target)):
        assert torch.equal(seen[name][0], (ids[:2] == 0).all(0)), name


class MadeTwice(Masked):
    """The masks of the source are two tensors, or the decoder is given none."""

    def __init__(self, of_memory: bool) -> None:
        super().__init__()
        self.of_memory = of_memory

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        masks = {"memory_key_padding_mask": source == 0} if self.of_memory else {}
        h = self.net(self.source(source), self.target(target), src_key_padding_mask=source == 0, **masks)
        return self.out(h)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("of_memory", [True, False])
@pytest.mark.parametrize("where", [{}, {"mux_at": ["source", "target"], "demux_at": "out"}])
def test_a_mask_that_a_part_of_the_model_reads_alone_is_known_there(of_memory: bool, where: dict[str, object]) -> None:
    torch.manual_seed(0)
    source, target = torch.randint(1, 30, (5, 10)), torch.randint(1, 30, (5, 8))
    source[0, 7:] = source[3, 5:] = source[4, 6:] = 0
    bare = MadeTwice(of_memory).eval()
    expected = bare(source, target)
    one = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=(source, target), **where)
    torch.testing.assert_close(one(source, target), expected)
    model = muxwrap.wrap(muxwrap.unwrap(one), 2, example_input=(source, target), **where).eval()
    seen: list[Tensor] = []
    model.backbone.net.encoder.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["src_key_padding_mask"]), with_kwargs=True
    )
    assert model(source, target).shape == (5, 8, 30)
    # of rows 0 and 1, of rows 2 and 3, of rows 4 and 0
    assert torch.equal(seen[0], torch.arange(10) >= torch.tensor([[10], [10], [7]]))
