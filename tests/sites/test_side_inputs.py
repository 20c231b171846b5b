"""Masks of any name, lengths and conditions: what they say is found by trying, and mixtures get what theirs say."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import copies
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import muxwrap
from muxwrap import Sites
from muxwrap._util.fast_path import without_fast_path
from muxwrap.site import SideInput

DIM, LENGTH = 16, 8


@pytest.fixture(autouse=True)
def _torch_says_that_nested_tensors_are_new() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nested tensors")
        yield


class Encoded(nn.Module):
    """Ids ``[B, L]`` through ``nn.TransformerEncoder`` to the answer of the first token, or to the mean of what is kept."""

    def __init__(self, pool: str = "first") -> None:
        super().__init__()
        self.embed = nn.Embedding(30, DIM)
        layer = nn.TransformerEncoderLayer(DIM, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3)
        self.out = nn.Linear(DIM, 3)
        self.pool = pool

    def forward(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
        if padding is None:
            padding = ids == 0
        h = self.encoder(self.embed(ids), src_key_padding_mask=padding)
        if self.pool == "kept":
            kept = ~padding.unsqueeze(-1)
            return self.out((h * kept).sum(1) / kept.sum(1))
        pools = {"first": lambda: h[:, 0], "last": lambda: h[:, -1], "mean": lambda: h.mean(1)}
        return self.out(pools[self.pool]())


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = (q @ k.mT).masked_fill(keep[:, None] == 0, -1e9)
        return x + self.out(scores.softmax(-1) @ v)


class Blocks(nn.Module):
    """A dict with ids and, in a dict inside, a mask of what is kept; blocks of attention as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, DIM)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.out = nn.Linear(DIM, 3)

    def forward(self, batch: dict[str, Any]) -> Tensor:
        h = self.embed(batch["ids"])
        for block in self.blocks:
            h = block(h, batch["masks"]["keep"])
        return self.out(h[:, 0])


class Packing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(DIM, DIM, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.lstm(packed)[1][0][-1]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(30, DIM), Packing(), nn.Linear(DIM, 3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids), lengths))


def ids(rows: int, seed: int = 0) -> Tensor:
    return torch.randint(1, 30, (rows, LENGTH), generator=torch.Generator().manual_seed(seed))


LENGTHS = torch.tensor([8, 6, 3, 5, 4])
PADDING = torch.arange(LENGTH) >= LENGTHS[:, None]
UNION = torch.stack(
    [PADDING[:2].all(0), PADDING[2:4].all(0), PADDING[[4, 0]].all(0)]
)  # the first row fills the last group
ADDITIVE = torch.zeros(5, LENGTH).masked_fill(PADDING, -torch.inf)


def call(kind: str, seed: int = 0) -> tuple[Any, ...]:
    """Return a call of five rows; with another seed, what differs is padding."""
    x = torch.where(PADDING, ids(5, seed), ids(5))
    return {
        "bool": (x, PADDING),
        "float": (x, ADDITIVE),
        "kept": (x, PADDING),
        "blocks": ({"ids": x, "masks": {"keep": (~PADDING).long()}},),
        "lengths": (x, LENGTHS),
    }[kind]


NETS = {
    "bool": Encoded,
    "float": Encoded,
    "kept": lambda: Encoded("kept"),
    "blocks": Blocks,
    "lengths": Recurrent,
}
KINDS = list(NETS)
EXPECTED = {
    "bool": ("encoder", "kwargs['src_key_padding_mask']", "padding", UNION),
    "float": (
        "encoder",
        "kwargs['src_key_padding_mask']",
        "additive",
        torch.zeros(3, LENGTH).masked_fill(UNION, -torch.inf),
    ),
    "blocks": ("blocks.1", "args[1]", "keep", (~UNION).long()),
    "lengths": ("rnn", "args[1]", "lengths", torch.tensor([8, 5, 8])),
}


def net(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return NETS[kind]()


def seen_by(model: nn.Module, path: str, argument: str, *arguments: Any) -> Tensor:
    """Return what a module of the backbone is given in a call."""
    seen: list[Any] = []
    module = model.backbone.get_submodule(path)
    handle = module.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True)
    model(*arguments)
    handle.remove()
    args, kwargs = seen[0]
    return eval(argument, {"args": args, "kwargs": kwargs})


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_mixture_is_told_what_counts_for_any_of_its_instances(kind: str) -> None:
    path, argument, said, expected = EXPECTED[kind]
    model = muxwrap.wrap(net(kind), 2, example_input=call(kind))
    assert (path, argument, said) in [(side.path, side.argument, side.kind) for side in model.sites.sides]
    given = seen_by(model, path, argument, *call(kind))
    assert given.dtype == expected.dtype
    assert torch.equal(given, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_padding_of_an_instance_is_not_part_of_a_mixture(kind: str, n: int) -> None:
    model = muxwrap.wrap(net(kind), n, example_input=call(kind)).eval()
    answer = model(*call(kind))
    assert answer.shape == (5, 3)
    torch.testing.assert_close(model(*call(kind, seed=1)), answer)
    with torch.no_grad():  # torch's fused layers
        torch.testing.assert_close(model(*call(kind)), answer)
    for copy in copies(model):
        torch.testing.assert_close(copy(*call(kind)), answer)
    answer.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_one_instance_is_the_bare_model(kind: str) -> None:
    bare = net(kind).eval()
    expected = bare(*call(kind))
    model = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=call(kind)).eval()
    torch.testing.assert_close(model(*call(kind)), expected)
    assert Sites.from_dict(model.sites.to_dict()) == model.sites


def test_padding_that_a_model_reads_is_mixed() -> None:
    torch.manual_seed(0)
    bare = Encoded("mean").eval()
    expected = bare(*call("bool"))
    model = muxwrap.wrap(bare, 1, "identity", "unbind", example_input=call("bool")).eval()
    torch.testing.assert_close(model(*call("bool")), expected)
    assert [side.site for side in model.sites.sides] == [None]


def test_the_last_position_is_read_though_it_is_padding() -> None:
    torch.manual_seed(0)
    bare, ids = Encoded("last").eval(), torch.randint(1, 30, (3, LENGTH))
    ids[1:, 5:] = 0
    with without_fast_path():  # whose layers give zero at padding
        own = bare(ids)
        model = muxwrap.wrap(bare, 1, "identity", demux="unbind", example_input=ids[:1]).eval()
        torch.testing.assert_close(model(ids), own)


def test_a_mask_that_is_made_inside() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Encoded(), 2, example_input=ids(1)).eval()
    assert model.sites.mux[0].path == "encoder"  # where the mask comes in, so that padding is known
    given = seen_by(model, "encoder", "kwargs['src_key_padding_mask']", ids(5).masked_fill(PADDING, 0))
    assert torch.equal(given, UNION)


@pytest.mark.parametrize("mux_at", ["embed", "encoder.layers.0", "encoder.layers.1@input"])
def test_named_sites(mux_at: str) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Encoded(), 2, mux_at=mux_at, demux_at="out", example_input=call("bool")).eval()
    answer = model(*call("bool"))
    with torch.no_grad():
        torch.testing.assert_close(model(*call("bool")), answer)
    assert torch.backends.mha.get_fastpath_enabled()
    torch.testing.assert_close(model(*call("bool", seed=1)), answer)


def test_a_prefix_is_never_padding() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Encoded(), 2, demux="index", demux_at="encoder@output", example_input=call("bool"))
    given = seen_by(model, "encoder", "kwargs['src_key_padding_mask']", *call("bool"))
    prefix = model.demuxer.prefix_length
    assert torch.equal(given, torch.nn.functional.pad(UNION, (prefix, 0), value=False)) and prefix > 0


def test_an_encoder_and_a_decoder() -> None:
    class Translator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source, self.target = nn.Embedding(30, DIM), nn.Embedding(30, DIM)
            self.both = nn.Transformer(DIM, 2, 1, 1, 32, dropout=0.0, batch_first=True)
            self.out = nn.Linear(DIM, 30)

        def forward(self, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
            later = torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1)
            masks = {"src_key_padding_mask": padding, "memory_key_padding_mask": padding}
            return self.out(self.both(self.source(source), self.target(target), tgt_mask=later, **masks))

    torch.manual_seed(0)
    x = (ids(5), ids(5, 2)[:, :6], PADDING)
    model = muxwrap.wrap(Translator(), 2, mux_at=["source", "target"], demux_at="out", example_input=x).eval()
    for name in ("src_key_padding_mask", "memory_key_padding_mask"):
        assert torch.equal(seen_by(model, "both", f"kwargs[{name!r}]", *x), UNION)
    assert model(*x).shape == (5, 6, 30)


# -- what is no mask --------------------------------------------------------------------------------------------------


class Timed(nn.Module):
    """Images, and a time step ``[B]`` that every block reads."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.shift = nn.Conv2d(DIM, DIM, 3, padding=1), nn.Linear(DIM, DIM)

        def forward(self, x: Tensor, step: Tensor) -> Tensor:
            return torch.relu(self.conv(x) + self.shift(step)[:, :, None, None])

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.steps = nn.Conv2d(2, DIM, 3, padding=1), nn.Linear(1, DIM)
        self.parts = nn.ModuleList(Timed.Part() for _ in range(3))
        self.out = nn.Conv2d(DIM, 2, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, step = self.stem(x), self.steps(t[:, None])
        for part in self.parts:
            h = part(h, step)
        return self.out(h)


def test_time_steps_are_shared_or_refused_or_mixed() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(4, 2, 6, 6), torch.tensor([0.1, 0.1, 0.7, 0.7])
    model = muxwrap.wrap(Timed(), 2, mux_at="stem", demux_at="out", example_input=(x[:1], t[:1]))
    assert {side.kind for side in model.sites.sides} == {"same"}
    assert model(x, t).shape == x.shape
    assert torch.equal(seen_by(model, "parts.1", "args[1]", x, t), model.backbone.steps(t[::2, None]))
    with pytest.raises(muxwrap.MuxwrapError, match=r"parts\.0 is given args\[1\] .* differs between rows .* mux_at="):
        model(x, t.flip(0).roll(1))
    muxwrap.unwrap(model)
    mixed = muxwrap.wrap(model.backbone, 2, example_input=(x[:1], t[:1]))
    assert [site.path for site in mixed.sites.mux] == ["stem", "steps"]
    assert mixed(x, t.flip(0).roll(1)).shape == x.shape


class Conditioned(nn.Module):
    """Sequences and a number each, added after a layer of its own, for a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.step = nn.Linear(6, DIM), nn.Linear(1, DIM)
        self.cell, self.out = nn.LSTM(DIM, DIM, batch_first=True), nn.Linear(DIM, 3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, _ = self.cell(self.stem(x) + self.step(t[:, None])[:, None])
        return self.out(h[:, -1])


def test_a_condition_beside_raw_inputs_is_not_taken_for_the_same_in_all_rows() -> None:
    torch.manual_seed(0)
    x, t = torch.randn(5, 7, 6), torch.rand(5)
    for rows in (1, 5):
        net = Conditioned().eval()
        model = muxwrap.wrap(net, 2, example_input=(x[:rows], t[:rows]))
        assert not any(side.kind == "same" for side in model.sites.sides)
        assert model(x, t).shape == (5, 3)
        moved = (model(x, t + torch.tensor([0, 0, 0, 0, 1.0])) - model(x, t)).abs().sum(1) > 0
        assert moved.tolist() == [False] * 4 + [True]
    with pytest.raises(muxwrap.MuxwrapError, match=r"no way found to multiplex Conditioned; name mux_at="):
        muxwrap.wrap(Conditioned(), 2, mux_at="@input", demux_at="out", example_input=(x, t))


def test_compiled_code_refuses_time_steps_that_differ_and_merges_masks() -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    x, t = torch.randn(4, 2, 6, 6), torch.tensor([0.1, 0.1, 0.7, 0.7])
    model = muxwrap.wrap(Timed(), 2, mux_at="stem", demux_at="out", example_input=(x[:1], t[:1]))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, t), model(x, t))
    with pytest.raises(RuntimeError, match=r"parts\.0 is given args\[1\] .* differs between rows"):
        compiled(x, t.roll(1))
    model = muxwrap.wrap(Encoded(), 2, example_input=call("bool")).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*call("bool")), model(*call("bool")))


def test_a_mask_that_the_example_had_not() -> None:
    class Optional(Encoded):
        def forward(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
            return self.out(self.encoder(self.embed(ids), src_key_padding_mask=padding)[:, 0])

    torch.manual_seed(0)
    model = muxwrap.wrap(Optional(), 2, example_input=ids(1)).eval()
    assert model(ids(5)).shape == (5, 3)
    with pytest.raises(muxwrap.MuxwrapError, match=r"5 rows make 3 mixtures of 2.*ids, padding.*example_input="):
        model(*call("bool"))


def test_a_side_input_is_written_and_read() -> None:
    side = SideInput("encoder", "args[1]", "padding", 0, ("", "args[1]"))
    sites = Sites((), (), sides=(side,))
    assert sites.padded and not Sites((), ()).padded
    assert Sites.from_dict(sites.to_dict()) == sites


class Weighed(Block):
    """Attention within the segments of a sequence, or to positions by their weights."""

    segments = True

    def forward(self, x: Tensor, of: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.segments:
            return x + self.out((q @ k.mT).masked_fill(of[:, None] != of[:, :, None], -1e9).softmax(-1) @ v)
        scores = (q @ k.mT).softmax(-1) * of[:, None]
        return x + self.out(scores / (scores.sum(-1, keepdim=True) + 1e-6) @ v)


class Marked(nn.Module):
    def __init__(self, segments: bool) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(30, DIM), nn.Linear(DIM, 3)
        self.blocks = nn.ModuleList(Weighed() for _ in range(2))
        for block in self.blocks:
            block.segments = segments

    def forward(self, ids: Tensor, of: Tensor) -> Tensor:
        h = self.embed(ids)
        for block in self.blocks:
            h = block(h, of)
        return self.out(h[:, 0])


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_segments_are_no_mask(kinds: int) -> None:
    torch.manual_seed(0)
    segments = torch.arange(LENGTH).mul(3).div(LENGTH, rounding_mode="floor").expand(4, -1).contiguous()
    model = muxwrap.wrap(Marked(True), 2, example_input=(ids(1), segments[:1].clamp(max=kinds - 1))).eval()
    assert model(ids(4), segments).shape == (4, 3)
    segments[1] = segments[1].flip(0)
    with pytest.raises(muxwrap.MuxwrapError, match="of the rows, which differs between rows that share a mixture"):
        model(ids(4), segments)


def test_weights_are_no_mask_though_those_of_the_example_were_all_one() -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Marked(False), 2, example_input=(ids(1), torch.ones(1, LENGTH))).eval()
    assert model(ids(5), (~PADDING).float()).shape == (5, 3)
    with pytest.raises(muxwrap.MuxwrapError, match="of the rows, which differs between rows that share a mixture"):
        model(ids(5), torch.rand(5, LENGTH))
