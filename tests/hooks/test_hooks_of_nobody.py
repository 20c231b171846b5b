"""Hooks whose wrapped model is gone do nothing, and do not keep the backbone from being wrapped."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from nets import batch, make
from torch import nn

import muxwrap


def wrapped() -> muxwrap.Multiplex:
    return muxwrap.wrap(make("mlp"), 2, example_input=batch("mlp", 1)).eval()


def hooks(model: nn.Module) -> list[object]:
    return [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


def loaded(backbone: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(backbone, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, loaded])
def test_a_backbone_copied_alone_can_be_wrapped(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, x = wrapped(), batch("mlp", 5)
    alone = copied(model.backbone)
    again = muxwrap.wrap(alone, 2, example_input=x).eval()
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(x), model(x))
    assert len(hooks(again.backbone)) == len(hooks(model.backbone))
    assert not hooks(muxwrap.unwrap(again))


def test_a_backbone_whose_wrapped_model_is_gone_can_be_wrapped() -> None:
    model, x = wrapped(), batch("mlp", 5)
    backbone, answer, state = model.backbone, model(x), model.state_dict()
    del model
    gc.collect()
    again = muxwrap.wrap(backbone, 2, example_input=x).eval()
    again.load_state_dict(state)
    torch.testing.assert_close(again(x), answer)
    assert not hooks(muxwrap.unwrap(again))


@pytest.mark.parametrize(
    "copied", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_what_belongs_to_a_wrapped_model_is_not_wrapped_twice(copied: Callable[[nn.Module], nn.Module]) -> None:
    model, x = copied(wrapped()), batch("mlp", 5)
    answer = model(x)
    with pytest.raises(muxwrap.MuxwrapError, match="it is wrapped already"):
        muxwrap.wrap(model.backbone, 3, example_input=x)
    torch.testing.assert_close(model(x), answer)
