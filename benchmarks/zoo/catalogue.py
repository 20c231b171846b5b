"""The zoo's entries, and the one check that every one of them goes through."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import muxwrap
from muxwrap._util.examples import ROWS, run, with_rows
from muxwrap._util.nested import first_tensor
from muxwrap.sites.examples import FAMILIES
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.trace import Trace

Build = Callable[[], tuple[nn.Module, Any]]


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Args:
        family: timm, torchvision, image, sequence or token.
        name: the name within its family.
        build: makes the model and an example of its input (None: muxwrap makes it from the model's metadata).
        exception: why it is known not to work; empty for all others.
    """

    family: str
    name: str
    build: Build
    exception: str = ""


def check(entry: Entry) -> dict[str, Any]:
    """Wrap at n=2 with default sites, forward 3 rows, backward, unwrap; return what the record holds of the wrapped model.

    Raises:
        AssertionError: a check fails; the message names it.
        Exception: whatever the model or muxwrap raises.
    """
    start = time.process_time()
    torch.manual_seed(0)
    backbone, example = entry.build()
    _make_alive(backbone)
    example = _own_rows(example if example is not None else _family_example(backbone))
    keys, hooks, modes = list(backbone.state_dict()), _hooks(backbone), [m.training for m in backbone.modules()]
    seen = trace(backbone, example)
    model = muxwrap.wrap(backbone, n=2, example_input=example)
    assert [m.training for m in backbone.modules()] == modes, "wrapping changed the mode of a module"
    fields = _fields(model)
    _check_training(model, seen, example)
    _check_rows(model, example)
    assert muxwrap.unwrap(model) is backbone, "unwrap returns another object"
    assert list(backbone.state_dict()) == keys, "the keys of the state dict changed"
    assert _hooks(backbone) == hooks, "unwrap leaves hooks"
    return {**fields, "seconds": round(time.process_time() - start, 2)}


def _check_training(model: muxwrap.Multiplex, seen: Trace, example: Any) -> None:
    """Train mode: one row out per row in, and gradients in strategy, demuxer, stem and trunk."""
    model.train()
    for demuxer in model.demuxers:
        demuxer.center_gradients = False  # centered gradients do not reach its last biases
    _backward(model, example)
    for module in (model.strategy, model.demuxer):
        for name, parameter in module.named_parameters():
            assert _reached(parameter), f"no gradient reaches {name} of {type(module).__name__}"
    model.zero_grad(set_to_none=True)
    for demuxer in model.demuxers:
        demuxer.center_gradients = True
    _backward(model, example)
    stem, *trunk = seen.leaves()
    assert any(map(_reached, stem.module.parameters())), f"no gradient reaches the stem ({stem.path})"
    inside = [visit for visit in trunk if visit.path not in {site.path for site in model.sites.demux}]
    assert not inside or any(_reached(p) for visit in inside for p in visit.module.parameters()), (
        "none reaches the trunk"
    )
    model.zero_grad(set_to_none=True)


def _backward(model: muxwrap.Multiplex, example: Any) -> None:
    outputs = _answers(run(model, example))
    torch.manual_seed(1)
    loss = sum((torch.randn_like(out) * out).sum() for out in outputs)
    loss.backward()  # type: ignore[union-attr]


def _check_rows(model: muxwrap.Multiplex, example: Any) -> None:
    """Evaluation mode: rows 0 and 1 depend on their own inputs, and row 2, of another mixture, does not depend on row 1."""
    model.eval()
    with torch.no_grad():
        before = _answers(run(model, example))[0]
        for row in (0, 1):
            after = _answers(run(model, _perturbed(example, row)))[0]
            assert not torch.equal(before[row], after[row]), f"row {row} does not depend on its own input"
        assert torch.allclose(before[2], after[2], atol=1e-4, rtol=1e-3), "row 2 depends on an input of another mixture"


def _answers(output: Any) -> list[Tensor]:
    """Return the output's floats: of a Transformers output the first tensor, else all of them."""
    first = first_tensor(output)
    assert first is not None, "the output holds no tensor with rows"
    found = [first] if hasattr(output, "keys") else [t for t in _tensors(output) if t.is_floating_point()]
    for out in found:
        assert out.shape[0] == ROWS, f"{ROWS} rows in, {out.shape[0]} out"
        assert torch.isfinite(out).all(), "the output is not finite"
    return found


def _fields(model: muxwrap.Multiplex) -> dict[str, Any]:
    return {
        "model": type(model.backbone).__name__,
        "parameters": sum(p.numel() for p in model.backbone.parameters()),
        "mux": [str(site) for site in model.sites.mux],
        "demux": [str(site) for site in model.sites.demux],
        "strategy": model.strategy.name,
        "demuxer": model.demuxer.name,
    }


# -- inputs -----------------------------------------------------------------------------------------------------------


def _family_example(backbone: nn.Module) -> Any:
    return next(family for family in FAMILIES if family.matches(backbone)).example(backbone)


def _own_rows(example: Any) -> Any:
    """Return three rows that differ: random images and vectors, the same tokens in another order."""
    return _change(with_rows(example), lambda x: torch.randn_like(x), _shuffle_rows)


def _perturbed(example: Any, row: int) -> Any:
    """Return the example with another input in one row."""

    def pixels(x: Tensor) -> Tensor:
        return torch.cat([x[:row], torch.randn_like(x[row : row + 1]), x[row + 1 :]])

    def tokens(x: Tensor) -> Tensor:
        return torch.cat([x[:row], _rolled(x[row : row + 1], ROWS + row), x[row + 1 :]])

    return _change(example, pixels, tokens)


def _change(example: Any, floats: Callable[[Tensor], Tensor], ids: Callable[[Tensor], Tensor]) -> Any:
    """Change the floats and the token ids of an example; positions, masks and boxes stay."""
    if isinstance(example, Tensor):
        return floats(example) if example.is_floating_point() else ids(example)
    if isinstance(example, (tuple, list)):
        return type(example)(_change(each, floats, ids) for each in example)
    new = dict(example)
    for name, value in new.items():
        if isinstance(value, Tensor) and (value.is_floating_point() or name.endswith(("input_ids", "inputs"))):
            new[name] = _change(value, floats, ids)
    return new


def _shuffle_rows(ids: Tensor) -> Tensor:
    return torch.cat([_rolled(ids[row : row + 1], row) for row in range(ROWS)])


def _rolled(ids: Tensor, by: int) -> Tensor:
    """Roll the tokens between the first and the last, which may be special to the model."""
    return torch.cat([ids[:, :1], ids[:, 1:-1].roll(by, dims=1), ids[:, -1:]], dim=1)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.ndim > 1:
            yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


# -- states -----------------------------------------------------------------------------------------------------------


def _make_alive(backbone: nn.Module) -> None:
    """Let an untrained network depend on its input.

    A head of zeros makes every answer the same and passes no gradient. With the statistics and the small weights that batch
    norms may start with, activations fade to nothing: they get weights of one and the statistics of the training step.
    """
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.02)
    for module in backbone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            if module.affine:
                nn.init.ones_(module.weight)


def _hooks(backbone: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in backbone.modules())


def _reached(parameter: Tensor) -> bool:
    grad = parameter.grad
    return grad is not None and bool(torch.isfinite(grad).all()) and bool(grad.any())
