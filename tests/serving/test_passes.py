"""A pass, and rows that spoil it for nobody but themselves."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from nets import batch
from served import model, rows
from torch import Tensor, nn

from muxwrap.errors import MuxwrapError
from muxwrap.serving.inputs import stack
from muxwrap.serving.passes import Passes
from muxwrap.serving.requests import RequestError

COLLATE = partial(stack, name="input")


def named(inputs: Tensor) -> list[dict[str, Any]]:
    return [{"input": row.numpy()} for row in inputs]


def test_mixtures_are_filled_with_their_own_rows() -> None:
    net, x = model(), rows(6)
    a, b, c, d, e, f = named(x)
    found = Passes(net, COLLATE)([[a, b, c], [d], [e, f]], 4)
    assert [len(answers) for answers in found] == [3, 1, 2]
    with torch.inference_mode():
        for mixture, answers in zip(([0, 1, 2, 0], [3, 3, 3, 3], [4, 5, 4, 5]), found, strict=True):
            torch.testing.assert_close(torch.tensor(answers), net(x[mixture])[: len(answers)])


def test_a_row_without_a_finite_answer_spoils_nothing() -> None:
    net, bad = model("cnn"), batch("cnn", 6)
    bad[1] = 3e38
    a, b, c, d, e, f = named(bad)
    passes = Passes(net, COLLATE)
    found = passes([[a, b, c, d], [e, f]], 4)
    assert isinstance(found[0][1], RequestError) and found[0][1].status == 422
    assert "no finite answer to this input" in str(found[0][1])
    kept = [found[0][0], found[0][2], found[0][3]]
    assert kept == [passes([[row]], 4)[0][0] for row in (a, c, d)]  # as if it had never been there
    torch.testing.assert_close(torch.tensor(found[1]), torch.tensor(passes([[e, f]], 4)[0]))
    assert all(torch.tensor(answer).isfinite().all() for answer in (*kept, *found[1]))


class Fails(nn.Module):
    """Fails on batches with a negative number."""

    def forward(self, x: Tensor) -> Tensor:
        if (x < 0).any():
            raise ValueError("negative")
        return x


def test_a_row_that_the_model_fails_on_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    x = rows(3).abs()
    x[1] = -1
    ((first, second, third),) = Passes(Fails(), COLLATE)([named(x)], 3)
    assert (first, third) == (x[0].tolist(), x[2].tolist())
    assert isinstance(second, RequestError) and (second.status, str(second)) == (500, "the model fails on this input")
    assert "negative" in caplog.text


@pytest.mark.parametrize("kind", [tuple, dict])
def test_answers_of_several_tensors_keep_their_names(kind: Any) -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> Any:
            parts = {"a": x.half(), "b": x.argmax(1), "loss": x.mean(), "states": (x,)}
            return parts if kind is dict else tuple(parts.values())

    ((answer,),) = Passes(Two(), COLLATE)([named(rows(1))], 1)
    first, second = answer.values()
    assert list(answer) == (["a", "b"] if kind is dict else ["0", "1"])
    assert first == rows(1)[0].half().float().tolist() and second == int(rows(1)[0].argmax())


def test_the_dtype_is_the_model_s() -> None:
    net = copy.deepcopy(model()).to(torch.bfloat16)
    ((answer, _),) = Passes(net, COLLATE)([named(rows(2))], 2)
    assert len(answer) == 5


def test_a_model_without_answers_is_not_served() -> None:
    class Loss(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean()

    with pytest.raises(
        MuxwrapError, match=r"returns no tensor with the batch's rows, so no row has an answer; serve one"
    ):
        Passes(Loss(), COLLATE).try_largest(named(rows(1))[0], 1, 1)
