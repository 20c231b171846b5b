"""``nn.MultiheadAttention`` as it is by default, with time steps first, and its masks of all heads ``[B * heads, L, L]``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap

DIM, LENGTH, HEADS = 16, 8, 4


class Layer(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, HEADS, batch_first=batch_first)
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x: Tensor, **masks: Tensor) -> Tensor:
        return self.norm(x + self.attention(x, x, x, need_weights=False, **masks)[0])


class Net(nn.Module):
    """Ids ``[B, L]``, 0 where they are padding, to a class."""

    def __init__(self, batch_first: bool, form: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, DIM)
        self.layers = nn.ModuleList(Layer(batch_first) for _ in range(3))
        self.out = nn.Linear(DIM, 3)
        self.batch_first, self.form = batch_first, form

    def masks(self, ids: Tensor) -> dict[str, Tensor]:
        padding = ids == 0
        if self.form == "padding":
            return {"key_padding_mask": padding}
        heads = padding[:, None, None].expand(-1, HEADS, LENGTH, -1).flatten(0, 1)
        if self.form == "causal":
            heads = heads | torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        if self.form == "additive":
            return {"attn_mask": torch.zeros(heads.shape).masked_fill(heads, -torch.inf)}
        return {"attn_mask": heads}

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = x if self.batch_first else x.transpose(0, 1)
        for layer in self.layers:
            x = layer(x, **self.masks(ids))
        return self.out(x[:, 0] if self.batch_first else x[0])


def net(batch_first: bool, form: str) -> Net:
    torch.manual_seed(0)
    return Net(batch_first, form).eval()


def ids() -> Tensor:
    """Return five rows, of which two share a mixture each; the first row fills the last group."""
    x = torch.randint(1, 30, (5, LENGTH), generator=torch.Generator().manual_seed(0))
    return x.masked_fill(torch.arange(LENGTH) >= torch.tensor([[8], [6], [3], [5], [4]]), 0)


FORMS = [(False, "padding"), *((first, form) for first in (True, False) for form in ("heads", "causal", "additive"))]


@pytest.mark.parametrize(("batch_first", "form"), FORMS)
def test_a_mixture_attends_to_what_any_of_its_instances_does(batch_first: bool, form: str) -> None:
    model = muxwrap.wrap(net(batch_first, form), 2, example_input=ids()).eval()
    assert model.sites.share > 0.9
    seen: list[Tensor] = []
    layer = model.backbone.layers[1]
    layer.register_forward_pre_hook(lambda _, args, kwargs: seen.extend(kwargs.values()), with_kwargs=True)
    answer = model(ids())
    of_longest = torch.where(torch.arange(LENGTH) < torch.tensor([[8], [5], [8]]), 1, 0)
    (expected,) = model.backbone.masks(of_longest).values()
    assert torch.equal(seen[0], expected)
    answer[4].sum().backward()
    assert answer.shape == (5, 3)
    assert model.backbone.embed.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("batch_first", "form"), FORMS)
def test_one_instance_is_the_bare_model(batch_first: bool, form: str) -> None:
    bare = net(batch_first, form)
    expected = bare(ids())
    model = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=ids()).eval()
    torch.testing.assert_close(model(ids()), expected)


@pytest.mark.parametrize("batch_first", [True, False])
def test_heads_that_see_other_pairs_in_rows_of_a_mixture_are_refused(batch_first: bool) -> None:
    class Graph(Net):
        def forward(self, x: Tensor, left_out: Tensor) -> Tensor:
            h = self.embed(x)
            h = h if self.batch_first else h.transpose(0, 1)
            for layer in self.layers:
                h = layer(h, attn_mask=left_out.repeat_interleave(HEADS, 0))
            return self.out(h[:, 0] if self.batch_first else h[0])

    torch.manual_seed(0)
    edges = torch.rand(4, LENGTH, LENGTH) > 0.5
    edges &= ~torch.eye(LENGTH, dtype=torch.bool)
    x = ids()[:4].clamp(min=1)
    model = muxwrap.wrap(Graph(batch_first, "heads"), 2, example_input=(x[:1], edges[:1])).eval()
    assert model(x, edges[[0, 0, 1, 1]]).shape == (4, 3)
    with pytest.raises(
        muxwrap.MuxwrapError, match="differs between rows that share a mixture in more than their padding"
    ):
        model(x, edges)


class Biased(nn.Module):
    """Attention with padding, and a bias ``[heads, L, L]`` of how far positions are apart, the same for all rows (ALiBi)."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inputs, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

        def forward(self, x: Tensor, bias: Tensor, padding: Tensor) -> Tensor:
            q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.inputs(x).chunk(3, -1))
            scores = (q @ k.mT + bias).masked_fill(padding[:, None, None], -1e9)
            return x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(30, DIM), nn.Linear(DIM, 3)
        self.blocks = nn.ModuleList(Biased.Block() for _ in range(2))

    def forward(self, ids: Tensor) -> Tensor:
        at = torch.arange(ids.shape[1])
        bias = -(at - at[:, None]).abs() * 0.5 ** torch.arange(1, HEADS + 1)[:, None, None]
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, bias, ids == 0)
        return self.out(x[:, 0])


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
def test_a_bias_of_every_head_is_none_of_the_rows(rows: int) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Biased(), 2, example_input=ids()[:2]).eval()
    seen: list[tuple[Tensor, ...]] = []
    model.backbone.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args))
    model.backbone(ids()[:rows])
    assert model(ids()[:rows]).shape == (rows, 3)
    (_, own, _), (_, bias, padding) = seen
    assert torch.equal(own, bias)
    assert padding.shape == (-(-rows // 2), LENGTH)


class Pairs(nn.Module):
    """Residues ``[B, L, 5]`` and what is known of their pairs ``[B, L, L, 6]``, of which a bias of the scores is made."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(5, DIM), nn.Linear(DIM, 3)
        self.pairs = nn.Sequential(nn.Linear(6, DIM), nn.ReLU(), nn.Linear(DIM, HEADS))
        self.layers = nn.ModuleList(Layer(batch_first=True) for _ in range(2))

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        bias, h = self.pairs(pairs).permute(0, 3, 1, 2).flatten(0, 1), self.embed(x)
        for layer in self.layers:
            h = layer(h, attn_mask=bias)
        return self.out(h.mean(1))


@pytest.mark.parametrize("rows", [1, 5])
def test_a_bias_of_each_row_is_no_mask(rows: int) -> None:
    torch.manual_seed(0)
    x, pairs = torch.randn(5, 7, 5), torch.randn(5, 7, 7, 6)
    model = muxwrap.wrap(Pairs(), 2, example_input=(x[:rows], pairs[:rows])).eval()
    assert {site.path for site in model.sites.mux} == {"embed", "pairs.0"}
    assert model(x, pairs).shape == (5, 3)
    muxwrap.unwrap(model)
    with pytest.raises(muxwrap.MuxwrapError, match="no way found to multiplex Pairs"):
        muxwrap.wrap(model.backbone, 2, mux_at="embed", demux_at="out", example_input=(x[:rows], pairs[:rows]))


def test_a_bias_of_each_row_is_refused_where_a_mask_was() -> None:
    class Local(Pairs):
        def forward(self, x: Tensor, bias: Tensor) -> Tensor:
            h = self.embed(x)
            for layer in self.layers:
                h = layer(h, attn_mask=bias.repeat_interleave(HEADS, 0))
            return self.out(h.mean(1))

    torch.manual_seed(0)
    x, mask = torch.randn(4, 7, 5), torch.zeros(4, 7, 7)
    mask[0, :, 5:] = -torch.inf
    model = muxwrap.wrap(Local(), 2, example_input=(x[:1], mask[1:2])).eval()
    assert model(x, mask).shape == (4, 3)
    bias = torch.randn(4, 7, 7)
    assert model(x, bias[[0, 0, 1, 1]]).shape == (4, 3)
    with pytest.raises(muxwrap.MuxwrapError, match=r"attn_mask.* of the rows, which differs between rows"):
        model(x, bias)
