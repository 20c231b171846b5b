"""A wrapped model as an ensemble of its indices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import batch, make
from torch import Tensor, nn

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.training import mimo_rows


def wrapped(net: str, n: int) -> muxwrap.Multiplex:
    return muxwrap.wrap(make(net), n, "slots", "mlp", example_input=batch(net, 1)).eval()


@pytest.mark.parametrize("net", ["mlp", "cnn", "tagger"])
@pytest.mark.parametrize("n", [1, 3])
def test_a_member_is_the_answer_of_one_index(net: str, n: int) -> None:
    model, x = wrapped(net, n), batch(net, 4)
    alone = torch.stack([torch.stack([model(row.expand(n, *row.shape))[i] for row in x]) for i in range(n)])
    members = model.members(x)
    torch.testing.assert_close(members, alone)
    torch.testing.assert_close(model.ensemble(x), alone.mean(0))
    if n > 1:
        assert not torch.allclose(members[0], members[1])


def test_a_row_has_no_companions() -> None:
    model, x = wrapped("mlp", 3), batch("mlp", 5)
    torch.testing.assert_close(model.ensemble(x)[2:3], model.ensemble(x[2:3]))


def test_transformers_output_keeps_its_type_and_its_loss() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    model = muxwrap.wrap(transformers.BertForSequenceClassification(config), 2).eval()
    ids, mask, labels = torch.randint(1, 50, (3, 6)), torch.ones(3, 6, dtype=torch.long), torch.tensor([0, 1, 1])
    bare, output = model.backbone(input_ids=ids), model.ensemble(input_ids=ids, attention_mask=mask, labels=labels)
    assert type(output) is type(bare)
    assert output.logits.shape == bare.logits.shape
    members = model.members(input_ids=ids, attention_mask=mask).logits
    expected = nn.functional.cross_entropy(members.transpose(0, 1).flatten(0, 1), labels.repeat_interleave(2))
    torch.testing.assert_close(output.loss, expected)


class Argmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make("mlp")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"logits": logits, "classes": logits.argmax(-1)}


def test_classes_have_no_mean() -> None:
    sites = {"mux_at": "net.hidden@input", "demux_at": "net.head@input"}
    model = muxwrap.wrap(Argmax(), 2, "slots", example_input=batch("mlp", 1), **sites).eval()
    x = batch("mlp", 4)
    with pytest.raises(
        MuxwrapError,
        match=r"output\['classes'\] is torch.int64, which has no mean over the 2 indices .*; use model.members",
    ):
        model.ensemble(x)
    assert model.members(x)["classes"].shape == (2, 4)


def test_without_rows() -> None:
    with pytest.raises(MuxwrapError, match="no tensor with rows"):
        wrapped("mlp", 2).ensemble(3)


@given(rows=st.integers(1, 6), n=st.integers(1, 4), repetitions=st.integers(1, 3), same=st.floats(0, 1))
def test_every_index_sees_every_row(rows: int, n: int, repetitions: int, same: float) -> None:
    generator = torch.Generator().manual_seed(0)
    order = mimo_rows(rows, n, repetitions, same, generator).unflatten(0, (-1, n))
    assert order.shape == (rows * repetitions, n)
    assert torch.bincount(order[:, 0], minlength=rows).tolist() == [repetitions] * rows
    alike = round(same * len(order))
    assert int((order == order[:, :1]).all(1).sum()) >= alike
    if not alike:
        for index in order.T:
            assert torch.bincount(index, minlength=rows).tolist() == [repetitions] * rows


@pytest.mark.parametrize(
    ("changed", "what"), [({"n": 0}, "at least 1"), ({"same": 1.5}, "share"), ({"rows": 0}, "least")]
)
def test_numbers_out_of_range(changed: dict[str, float], what: str) -> None:
    with pytest.raises(MuxwrapError, match=what):
        mimo_rows(**{"rows": 4, "n": 2, **changed})


def test_trained_as_an_ensemble_it_beats_its_members() -> None:
    """The mean of the members has the smaller loss (it cannot be larger than their mean)."""
    torch.manual_seed(0)
    x = torch.randn(256, 12)
    y = (x[:, 0] * x[:, 1] > 0).long()
    model = wrapped("mlp", 2).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        order = mimo_rows(len(x), model.n)
        loss = nn.functional.cross_entropy(model(x[order]), y[order])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    members = model.members(x).log_softmax(-1)
    alone = torch.stack([nn.functional.nll_loss(each, y) for each in members])
    assert alone.max() < 0.6
    assert nn.functional.nll_loss(members.exp().mean(0).log(), y) < alone.mean()
