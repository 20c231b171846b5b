"""Which tensors of an output are answers."""

from __future__ import annotations

import torch

from muxwrap.inference.answers import answers_in


def test_what_belongs_to_mixtures_is_no_answer_however_many_rows_there_are() -> None:
    x = torch.randn(4, 3)
    output = {
        "loss": torch.tensor(1.0),
        "logits": x,
        "encoder_last_hidden_state": x,
        "decoder_attentions": (x, x),
        "hidden_states": (x, x),
        "router_logits": (x,),
        "score": x,
    }
    assert list(answers_in(output, 4)) == ["logits", "answer_score"]
    assert list(answers_in(x, 4)) == ["answer"]
    assert answers_in(x, 5) == {}
