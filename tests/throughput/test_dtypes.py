"""Half precision: what the processor is asked, what is cast, and which dtype is taken."""

from __future__ import annotations

import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap
from muxwrap.throughput import Configuration, bfloat16_instructions, compare, compare_dtypes, measure, predict, timing

QUICK = {"mixtures": (1, 2), "rounds": 2, "seconds": 0.0}


class Clock:
    """A clock that goes on by a millisecond per look."""

    now = 0.0

    def perf_counter(self) -> float:
        self.now += 0.001
        return self.now


class Slow(nn.Module):
    """A network that takes 20 ms longer where its weights have one of the dtypes."""

    clock = Clock()

    def __init__(self, slow: torch.dtype) -> None:
        super().__init__()
        self.slow = slow
        self.stem, self.trunk, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.stem.weight.dtype == self.slow:
            self.clock.now += 0.02
        return self.head(self.trunk(self.stem(x)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes only as :class:`Slow` lets it, so that no test depends on what else the machine does."""
    monkeypatch.setattr(timing, "time", Slow.clock)


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "amx_bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "avx512_bf16"),
        ({"bf16": True, "neon": True}, "bf16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx2": True}, None),
    ],
)
def test_the_processor_is_asked(has: dict[str, bool], expected: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert bfloat16_instructions() == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert bfloat16_instructions() is None


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(("slow", "fast"), [(torch.float32, "bfloat16"), (torch.bfloat16, "float32")])
def test_auto_takes_the_faster_dtype(slow: torch.dtype, fast: str) -> None:
    backbone, x = Slow(slow), torch.randn(1, 8)
    bare = compare_dtypes(backbone, example_input=x, **QUICK)
    assert bare.dtypes == ["float32", "bfloat16"]
    assert bare.fastest.dtype == fast
    assert {cell.n for cell in bare.cells} == {1}
    report = measure(backbone, (2,), example_input=x, dtype="auto", **QUICK)
    assert [(cell.name, cell.dtype) for cell in report.cells] == [("bare", fast), ("n=2", fast)]


def test_dtypes_are_measured_on_copies() -> None:
    backbone = make("cnn")
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    report = measure(backbone, (2,), example_input=batch("cnn", 1), dtype=("float32", torch.bfloat16), **QUICK)
    assert [(cell.name, cell.dtype) for cell in report.cells] == [
        ("bare", "float32"),
        ("n=2", "float32"),
        ("bare", "bfloat16"),
        ("n=2", "bfloat16"),
    ]
    whole, half = report.cells[0], report.cells[2]
    assert half.flops == whole.flops
    assert half.activation_bytes == whole.activation_bytes / 2
    for name, value in backbone.state_dict().items():
        assert value.dtype == before[name].dtype and torch.equal(value, before[name])


def test_the_dtype_is_the_backbones_own_by_default() -> None:
    report = measure(make("cnn").bfloat16(), (2,), example_input=batch("cnn", 1).bfloat16(), **QUICK)
    assert report.dtypes == ["bfloat16"]
    assert "over bare" not in str(report)


@pytest.mark.usefixtures("clock")
def test_speed_ups_are_over_the_bare_model_of_the_same_dtype() -> None:
    x = torch.randn(1, 8)
    backbones = {dtype: Slow(torch.bfloat16).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    configurations = [Configuration("bare", each, x.to(dtype)) for dtype, each in backbones.items()]
    wrapped = muxwrap.wrap(Slow(torch.bfloat16).bfloat16(), 2, example_input=x.bfloat16())
    report = compare(
        [*configurations, Configuration("n=2", wrapped, x.bfloat16())], mixtures=(1,), rounds=3, seconds=0.0
    )
    whole, half, mixed = report.cells
    assert whole.ratio_to_bare == half.ratio_to_bare == whole.ratio_to_first == 1
    assert half.ratio_to_first == pytest.approx(1 / 21)  # it waits
    assert mixed.ratio_to_bare == pytest.approx(2)  # over the one that waits as well
    assert mixed.ratio_to_first == pytest.approx(2 / 21)
    assert "over bare float32" in str(report).splitlines()[0]
    assert [line.get_label() for line in report.plot().lines] == ["bound", "float32", "bfloat16"]


@pytest.mark.parametrize("dtype", ["bf16", "int8", torch.int64, ("float32", "auto")], ids=str)
def test_other_dtypes_are_refused(dtype: object) -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="not a floating-point dtype"):
        measure(make("mlp"), (2,), example_input=batch("mlp", 1), dtype=dtype, **QUICK)


def test_prediction_in_another_dtype() -> None:
    backbone = Slow(torch.bfloat16)
    assert predict(backbone, 2, example_input=torch.randn(1, 8), dtype="bfloat16") > 0
    assert backbone.stem.weight.dtype == torch.float32
