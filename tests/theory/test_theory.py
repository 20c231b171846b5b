"""The exact construction as laws over random sizes; what breaks it, measured beside the predicted error; capacity."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import ROOT, numbers, random_state_untouched
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from muxwrap import MuxwrapError, list_strategies, theory

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}
dtypes = st.sampled_from(list(TOLERANCE))
counts = st.integers(1, 5)
seeds = st.integers(0, 2**16)
STRATEGIES = list_strategies("features")


def encoder(heads: int, size: int, depth: int, norm_first: bool, seed: int, dtype: torch.dtype) -> nn.Module:
    width = heads * size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width + 1, 0.0, "gelu", batch_first=True)
        layer.norm_first = norm_first
        norm = nn.LayerNorm(width) if norm_first else None
        made = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        for parameter in made.parameters():  # different in every layer, biases and norms included
            nn.init.normal_(parameter, 0.3, 0.5)
    return made.to(dtype)


def passes(encoder: nn.Module, x: Tensor, allowed: Tensor | None = None) -> Tensor:
    """n separate passes; ``allowed`` is [g, n, L, L]."""
    mask = None if allowed is None else ~allowed.flatten(0, 1).repeat_interleave(heads_of(encoder), dim=0)
    return encoder(x.flatten(0, 1), mask).view_as(x)


def heads_of(encoder: nn.Module) -> int:
    return next(m.num_heads for m in encoder.modules() if isinstance(m, nn.MultiheadAttention))


@given(
    n=counts,
    heads=st.integers(1, 3),
    size=st.integers(1, 5),
    depth=st.integers(1, 3),
    length=st.integers(1, 6),
    groups=st.integers(1, 3),
    norm_first=st.booleans(),
    masked=st.booleans(),
    scale=st.sampled_from(["mean", "sqrt", "sum", 0.3]),
    dtype=dtypes,
    seed=seeds,
)
def test_one_pass_is_n_passes(
    n: int,
    heads: int,
    size: int,
    depth: int,
    length: int,
    groups: int,
    norm_first: bool,
    masked: bool,
    scale: str | float,
    dtype: torch.dtype,
    seed: int,
) -> None:
    small = encoder(heads, size, depth, norm_first, seed, dtype)
    bases = theory.SlotCode.random(n, heads * size, n * heads * size + seed % 3, seed=seed, dtype=torch.float64).keys
    big = theory.multiplexed(small, code=theory.SlotCode(bases, scale=scale))
    x = numbers(seed, groups, n, length, heads * size, dtype=dtype)
    allowed = None
    if masked:  # each instance its own, the diagonal always
        allowed = (numbers(seed + 1, groups, n, length, length) > 0) | torch.eye(length, dtype=torch.bool)
    torch.testing.assert_close(big(x, allowed), passes(small, x, allowed), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(n=counts, rank=st.integers(1, 6), spare=st.integers(0, 3), outer=st.integers(0, 4), seed=seeds, dtype=dtypes)
def test_mixing_is_undone(n: int, rank: int, spare: int, outer: int, seed: int, dtype: torch.dtype) -> None:
    bases = theory.SlotCode.random(n, rank, n * rank + spare, seed=seed, dtype=torch.float64).keys
    subspace = theory.random_frame(rank + outer, rank, seed + 1)
    code = theory.SlotCode(bases, subspace, scale="mean").to(dtype)
    x = numbers(seed, 2, n, 3, rank, dtype=dtype) @ subspace.T.to(dtype)
    torch.testing.assert_close(code.unmix(code.mix(x)), x, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@given(n=counts, rank=st.integers(1, 3), outer=st.integers(0, 4), depth=st.integers(1, 3), seed=seeds, dtype=dtypes)
def test_attention_in_a_subspace_of_a_wide_layer(
    n: int, rank: int, outer: int, depth: int, seed: int, dtype: torch.dtype
) -> None:
    """The general statement: P is narrower than the layer, so n · rank dimensions suffice; with residuals, in layers."""
    width = 2 * (rank + outer)
    subspace = theory.random_frame(width, rank, seed)
    bases = theory.SlotCode.random(n, rank, seed=seed, dtype=torch.float64).keys
    layer = encoder(2, width // 2, 1, False, seed, torch.float64).layers[0].self_attn
    onto = subspace @ subspace.T
    with torch.no_grad():  # the layer maps span(P) to itself
        layer.out_proj.weight.copy_(onto @ layer.out_proj.weight)
        layer.out_proj.bias.copy_(onto @ layer.out_proj.bias)
    layer = layer.to(dtype)
    big = theory.multiplexed(layer, code=theory.SlotCode(bases, subspace, scale="sqrt"))
    x = (numbers(seed, 2, n, 4, rank) @ subspace.T).to(dtype)
    mixture, expected = big.code.mix(x), x.flatten(0, 1)
    for _ in range(depth):
        mixture = mixture + big.trunk(mixture)
        expected = expected + layer(expected, expected, expected, need_weights=False)[0]
    assert big.code.dim == n * rank
    got = big.code.unmix(mixture)
    error = (got - expected.view_as(x)).abs().max() / expected.abs().max()
    assert error < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("family", ["Bert", "Roberta", "Electra"])
def test_encoders_of_hugging_face(family: str, dtype: torch.dtype) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 12, "embedding_size": 12, "intermediate_size": 20}
    config = getattr(transformers, f"{family}Config")(
        vocab_size=30, num_hidden_layers=2, num_attention_heads=3, initializer_range=0.3, **sizes
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}Model")(config).eval().to(dtype)
    ids = torch.randint(3, 30, (2, 4, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([[6, 3, 1, 5], [2, 6, 4, 6]]).unsqueeze(-1)
    x = model.embeddings(ids.flatten(0, 1)).view(2, 4, 6, 12)
    got = theory.multiplexed(model, 4)(x, mask)
    expected = model(ids.flatten(0, 1), mask.flatten(0, 1).long()).last_hidden_state.view_as(got)
    torch.testing.assert_close(got[mask], expected[mask], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert not torch.allclose(theory.multiplexed(model, 4)(x)[mask], expected[mask], atol=1e-2), "the mask is at work"


def test_a_decoder_of_hugging_face_is_refused() -> None:
    """It masks the future by itself, which the call of the multiplexed encoder does not know."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, is_decoder=True
    )
    with pytest.raises(MuxwrapError, match="is_decoder"):
        theory.multiplexed(transformers.BertModel(config), 2)


@given(
    n=counts,
    heads=st.integers(1, 2),
    size=st.integers(3, 5),  # a norm over two features is a step, and its gradient rounding
    depth=st.integers(1, 3),
    norm_first=st.booleans(),
    dtype=dtypes,
    seed=seeds,
)
def test_gradients_are_those_of_the_passes(
    n: int, heads: int, size: int, depth: int, norm_first: bool, dtype: torch.dtype, seed: int
) -> None:
    small = encoder(heads, size, depth, norm_first, seed, dtype)
    big = theory.multiplexed(small, n)
    x = numbers(seed, 2, n, 4, heads * size, dtype=dtype).requires_grad_()
    weight = numbers(seed + 1, *x.shape, dtype=dtype)  # a loss that the norms do not make constant
    (expected,) = torch.autograd.grad((passes(small, x) * weight).sum(), x)
    (got,) = torch.autograd.grad((big(x) * weight).sum(), x, retain_graph=True)
    error = (got - expected).abs().max() / expected.abs().max()
    assert error < 100 * TOLERANCE[dtype]
    (big(x) * weight).sum().backward()
    # Keys share their bias, which no softmax sees. Everything else learns.
    silent = {name for name, p in big.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert silent <= {f"layers.{k}.attention.key.bias" for k in range(depth)}
    assert all(p.grad is None for p in small.parameters())


def test_the_code_that_was_given_stays_as_it_was() -> None:
    code = theory.SlotCode.random(2, 4, dtype=torch.float64)
    big = theory.multiplexed(encoder(2, 2, 1, False, 0, torch.float32), code=code)
    assert big.code.keys.dtype == torch.float32 and code.keys.dtype == torch.float64


def test_instances_do_not_reach_each_other() -> None:
    big = theory.multiplexed(encoder(2, 4, 2, False, 1, torch.float64), 3)
    x = numbers(1, 1, 3, 5, 8)
    changed = x.clone()
    changed[:, 1] = numbers(2, 1, 5, 8)
    moved = (big(x) - big(changed)).abs().amax((0, 2, 3))
    assert moved[1] > 0.1 and moved[[0, 2]].max() < 1e-10


def test_the_global_random_state_is_left_alone() -> None:
    small = encoder(2, 3, 1, False, 0, torch.float32)
    with random_state_untouched():
        theory.multiplexed(small, 3, seed=5)
        theory.capacity.recovery("sign", 2, 16, 10)
        theory.full_rank_error(2, 3, 4)


def test_operations_against_torch() -> None:
    counter = FlopCounterMode(display=False)
    big = theory.multiplexed(encoder(2, 4, 1, False, 0, torch.float32), 3)
    mixture = big.code.mix(torch.zeros(1, 3, 16, 8))
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        big.trunk(mixture)
    counted = theory.operations(3, 8, 17, 16)
    assert counter.get_total_flops() == 2 * counted.multiplexed
    assert counted.multiplexed > counted.separate and counted.multiplexed < counted.separate_wide


def attention(width: int, heads: int) -> nn.MultiheadAttention:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.MultiheadAttention(width, heads, batch_first=True).double()


@pytest.mark.parametrize(("n", "groups"), [(2, 1), (4, 2), (4, 1), (6, 2)])
def test_shared_heads_as_predicted(n: int, groups: int) -> None:
    module, x = attention(32, 4), numbers(0, 4, n, 256, 32)
    error = theory.shared_heads_error(module, x, groups)
    assert error.measured > 0.1
    assert error.measured == pytest.approx(error.predicted, rel=0.2)
    exact = theory.shared_heads_error(module, x, n)
    assert exact.measured < 1e-12 and exact.predicted == 0


def test_heads_that_are_shared_look_where_all_of_their_instances_may() -> None:
    module, x = attention(8, 2), numbers(0, 2, 4, 5, 8)
    mask = torch.ones(2, 4, 5, dtype=torch.bool)
    mask[:, 1, 3:] = False  # instance 1 shares its heads with instance 0, and not with 2 and 3
    big = theory.multiplexed(module, 4, groups=2)
    both = mask.clone()
    both[:, 0, 3:] = False
    torch.testing.assert_close(big(x, mask), big(x, both))
    free = big(x)
    torch.testing.assert_close(big(x, mask)[:, 2:], free[:, 2:])
    assert not torch.allclose(big(x, mask)[:, :2], free[:, :2])


def test_overlapping_frames_bring_the_others_and_not_itself() -> None:
    """At n = 2 the one other: √(r/d), where n instead of n - 1 would be 41 % more."""
    error = theory.full_rank_error(2, 16, 64, overlap=True, tokens=2048)
    assert error.predicted == 0.5 and error.measured == pytest.approx(0.5, rel=0.1)


@given(n=counts, width=st.integers(2, 9), spread=st.floats(0, 2), seed=seeds)
def test_shared_norm_as_predicted(n: int, width: int, spread: float, seed: int) -> None:
    scale = (spread * numbers(seed + 1, 1, n, 1, 1)).exp()
    error = theory.shared_norm_error(numbers(seed, 2, n, 3, width) * scale + spread * numbers(seed + 2, 2, n, 1, 1))
    assert error.measured == pytest.approx(error.predicted, rel=1e-6, abs=1e-9)
    assert n > 1 or error.measured < 1e-9


@given(n=st.integers(2, 8), rank=st.integers(4, 24), dim=st.integers(24, 64), overlap=st.booleans(), seed=seeds)
def test_full_rank_as_predicted(n: int, rank: int, dim: int, overlap: bool, seed: int) -> None:
    error = theory.full_rank_error(n, rank, dim, overlap=overlap, seed=seed, tokens=1024)
    assert error.measured == pytest.approx(error.predicted, rel=0.2, abs=1e-10)
    assert overlap or (error.measured < 1e-10) == (n * rank <= dim or rank <= dim // n)


@pytest.mark.parametrize("strategy", ["orthogonal", "sign", "slots"])
@pytest.mark.parametrize("n", [2, 8, 16, 24])
def test_recovery_of_isometries_and_slots_as_predicted(strategy: str, n: int) -> None:
    found = theory.capacity.recovery(strategy, n, 256, 2000, positions=100)
    assert found == pytest.approx(theory.capacity.predicted_recovery(n, 256, 2000), abs=0.1)


def test_recovery_of_every_strategy() -> None:
    names = [name for name in STRATEGIES if name != "reversible"]  # whose nets are no matched filter's to take back
    found = {name: theory.capacity.recovery(name, 4, 256, 500, positions=50) for name in names}
    assert found.pop("identity") == pytest.approx(1 / 4, abs=0.12)  # which tokens, not which is whose
    assert min(found.values()) > 0.95, found


def test_the_rule_is_at_the_knee() -> None:
    n = theory.capacity.rule_of_thumb(768, 50_265)
    assert n == pytest.approx(35.5, abs=0.1)
    assert 0.4 < theory.capacity.predicted_recovery(round(n), 768, 50_265) < 0.75
    assert theory.capacity.predicted_recovery(10, 768, 50_265) > 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.SlotCode.random(3, 4, 11), "n <= 2"),
        (lambda: theory.SlotCode(torch.ones(2, 2, 8)), "not orthonormal"),
        (lambda: theory.SlotCode(torch.ones(2, 8)), r"\[n, r, dim\]"),
        (lambda: theory.SlotCode(torch.eye(4).view(2, 2, 4), torch.eye(5, 3)), r"\[width, 2\]"),
        (lambda: theory.SlotCode.random(2, 3).mix(torch.zeros(1, 3, 4, 3)), r"\[groups, 2, ..., 3\]"),
        (lambda: theory.multiplexed(nn.Linear(3, 3), 2), "not an encoder"),
        (lambda: theory.multiplexed(attention(8, 2)), "neither n nor a code"),
        (lambda: theory.multiplexed(attention(8, 2), 3, code=theory.SlotCode.random(2, 8)), "mixes 2"),
        (lambda: theory.multiplexed(attention(8, 2), 4, groups=3), "groups=3 does not divide"),
        (lambda: theory.multiplexed(attention(8, 2), code=theory.SlotCode.random(2, 6)), "8 wide"),
        (lambda: theory.multiplexed(nn.MultiheadAttention(8, 2, kdim=4), 2), "kdim"),
        (lambda: theory.multiplexed(attention(8, 2), 0), "n=0"),
        (lambda: theory.shared_norm_error(torch.zeros(2, 3)), "groups, n, L, width"),
        (lambda: theory.full_rank_error(9, 4, 8), "n <= dim"),
        (lambda: theory.full_rank_error(2, 9, 8, overlap=True), "rank <= dim"),
        (lambda: theory.capacity.recovery("sign", 2, 8, 1), "vocabulary"),
        (lambda: theory.capacity.recovery("sing", 2, 8, 9), "did you mean 'sign'"),
    ],
)
def test_refusals(call: Callable[[], object], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        call()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 5), (6, 4)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    big = theory.multiplexed(encoder(1, 2, 1, False, 0, torch.float32), 3)
    with pytest.raises(MuxwrapError, match="every instance has its own"):
        big(torch.zeros(2, 3, 4, 2), torch.ones(shape))


def test_the_figures_are_drawn_from_the_kept_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "docs" / "results" / "theory.json", tmp_path / "results")
    from benchmarks.studies.theory import figures

    figures.main(["--redraw", "--docs", str(tmp_path)])
    drawn = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert drawn == [f"theory_{name}.png" for name in ("capacity", "exact", "limits")]
    assert all(name in (ROOT / "docs" / "why.md").read_text() for name in drawn)


@pytest.mark.parametrize("reached", [1, 2, 3, 5, 7, 16])
@pytest.mark.parametrize("dim", [7, 16, 64])
def test_the_largest_n_is_found(reached: int, dim: int) -> None:
    from benchmarks.studies.theory.figures import largest

    asked: list[int] = []
    found = largest(lambda n: asked.append(n) or 1.0 - 0.5 * (n > reached), 0.9, dim)
    assert found == min(reached, dim) and max(asked, default=1) <= dim
