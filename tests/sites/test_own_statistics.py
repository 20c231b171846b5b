"""Models that norm a row by its own statistics, and give its answer back in them: they are the row's, not its mixture's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import muxwrap
from muxwrap.errors import MuxwrapError


class Forecaster(nn.Module):
    """Quantiles of the next steps, ``[B, L, C] -> [B, 6, quantiles]``, in the units of the row's first channel."""

    def __init__(self, quantiles: int, channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.LSTM(channels, 64, 2, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(64, 6) for _ in range(quantiles))

    def forward(self, x: Tensor) -> Tensor:
        mean, scale = x.mean(1, keepdim=True), x.std(1, keepdim=True) + 1e-5
        state = self.rnn((x - mean) / scale)[0][:, -1]
        return torch.stack([head(state) for head in self.heads], -1) * scale[..., :1] + mean[..., :1]


X = 5 + 3 * torch.randn(6, 24, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:.*2 rows share 1 number")
@pytest.mark.parametrize("quantiles", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_heads_read_rows_and_answers_are_not_what_is_separated(quantiles: int, channels: int) -> None:
    net = Forecaster(quantiles, channels)
    model = muxwrap.wrap(net, 2, example_input=X[:1, :, :channels]).eval()
    assert [site.path for site in model.sites.demux] == [f"heads.{k}" for k in range(quantiles)]
    assert [site.path for site in model.sites.mux] == ["rnn"]
    units = X[..., :channels].clone()
    units[0] = 100 * units[0] + 7  # the same normed row in other units
    with torch.no_grad():
        before, after = model(X[..., :channels]), model(units)
    torch.testing.assert_close(after[0], 100 * before[0] + 7, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(after[1:], before[1:], atol=1e-4, rtol=1e-4)


def test_one_place_for_both_is_told() -> None:
    with pytest.raises(MuxwrapError, match=r"nothing runs between .* both are at the input of rnn .*'path@output'"):
        muxwrap.wrap(Forecaster(1), 2, example_input=X[:1], mux_at="rnn@input", demux_at="rnn")
