"""Every image learned into a cell of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap._util.sizes import fixed
from muxwrap.errors import MuxwrapError, check_dim
from muxwrap.site import Sees
from muxwrap.strategies import keys
from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.images._convolution import as_filters, as_weight, per_index_conv
from muxwrap.strategies.images._grid import cells, row_counts, side_by_side
from muxwrap.strategies.resampling import resize


@registry.register("layout")
class Layout(Strategy):
    """φ_i(x) = c_i(x) written into the i-th cell of the mixture, c_i a strided convolution of its own for every index.

    The learned ``remap``: instances never disturb each other in the mixture, which has the images' own size, and training
    decides what is worth keeping of each. A cell of a row of r cells is reached with the stride (n / r, r), rounded; an
    image whose sides the strides do not divide is first resized a little, by area. At the start the first dim channels
    of c_i are the area interpolation of ``remap``, any further ones random filters.

    Cost: channels·dim·(stride + 2·reach)² multiplications per pixel of the mixture, whatever n is; with ``hidden``, its
    first width joins the channels, and 9 times the product of neighbouring widths are added for each layer.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        channels: channels of the mixture, dim by default; with others the stem is widened. Images with one channel keep
            only 1/n of their numbers otherwise.
        reach: pixels that a convolution reads beyond its stride on each side, so that neighbouring fields overlap.
        hidden: widths of layers with ReLU, own ones for every index, between the strided convolution and convolutions 3x3
            inside the cell; their output is added to the cell, and starts at zero. They run at the cell's size, which
            makes them cheap.
        learnable: train the convolutions (the default here).
        scale: ``"sum"`` by default, since cells do not add up.
        seed: fixes the random part of the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``channels``, ``reach``, ``hidden`` or ``scale``, or (at the first mixture)
            an image with fewer pixels than cells.
    """

    sees: ClassVar[Sees] = "image"
    disjoint = True

    def __init__(
        self,
        n: int,
        dim: int,
        *,
        channels: int | None = None,
        reach: int = 2,
        hidden: Sequence[int] = (),
        learnable: bool = True,
        scale: str | float = "sum",
        seed: int = 0,
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        if not isinstance(reach, int) or reach < 0:
            raise MuxwrapError(f"layout(reach={reach!r}): give the pixels read beyond the stride, an int >= 0")
        if not isinstance(hidden, (tuple, list)):
            raise MuxwrapError(f"layout(hidden={hidden!r}): give the widths of the layers, such as hidden=(16,)")
        self.channels = channels if channels is None else check_dim(channels)
        self.reach = reach
        self.hidden = tuple(check_dim(width) for width in hidden)
        self.width = dim if channels is None else channels
        self.counts = row_counts(n)
        rng = keys.generator(seed)
        for count in dict.fromkeys(self.counts):  # rows of one length share a shape of kernels
            members = count * self.counts.count(count)
            self.set_keys(f"kernels_{count}", as_weight(self._area_kernels(members, count, rng)))
        for k, (before, after) in enumerate(pairwise((*self.hidden, self.width))):
            noise = keys.normal(rng, n, after, before, 3, 3)
            last = k == len(self.hidden) - 1
            noise *= 0 if last else (2 / (9 * before)) ** 0.5  # He's variance, for the ReLU
            self.set_keys(f"filters_{k}", as_weight(noise))
            self.set_keys(f"offsets_{k}", torch.zeros(n, before, device="cpu", dtype=torch.float32))

    def bind(self, x: Tensor) -> Tensor:
        """Write c_i(x_i) into cell i, zeros elsewhere: ``[g, n, dim, H, W] -> [g, n, width, H, W]``."""
        size = fixed(x.shape[-2:])
        places = zip(self._contents(x), cells(self.counts, *size), strict=True)
        return torch.stack([cell.embed(content, *size) for content, cell in places], dim=1)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Put the cells side by side; nothing larger than one mixture is held."""
        return side_by_side(self._contents(x), self.counts) * self.factor

    def _contents(self, x: Tensor) -> list[Tensor]:
        """Return c_i(x_i), ``[g, width, height of cell i, width of cell i]``."""
        places = cells(self.counts, *fixed(x.shape[-2:]))
        lengths = [count for count in self.counts for _ in range(count)]  # of the row of every index
        seen = dict.fromkeys(lengths, 0)
        alike: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for i, (count, cell) in enumerate(zip(lengths, places, strict=True)):
            alike.setdefault((count, cell.height, cell.width), []).append((i, seen[count]))
            seen[count] += 1
        contents: dict[int, Tensor] = {}
        for (count, height, width), members in alike.items():  # cells of one shape in one grouped convolution
            indices, rows = (list(which) for which in zip(*members, strict=True))
            kernels = as_filters(getattr(self, f"kernels_{count}"), lengths.count(count))[rows]
            made = self._shrink(x, indices, kernels, count, height, width)
            contents.update(zip(indices, self._add_hidden(made, indices).unbind(1), strict=True))
        return [contents[i] for i in range(self.n)]

    def _shrink(self, x: Tensor, indices: list[int], kernels: Tensor, count: int, height: int, width: int) -> Tensor:
        """Convolve the chosen instances of ``[g, n, C, H, W]``, each with its kernel, to ``[g, chosen, C', h, w]``."""
        stride = self._strides(count)
        chosen = x if len(indices) == self.n else x[:, indices]
        chosen = resize(chosen, height * stride[0], width * stride[1])
        return per_index_conv(chosen, kernels, stride=stride, padding=self.reach)

    def _add_hidden(self, made: Tensor, indices: list[int]) -> Tensor:
        """Run the hidden layers on the channels after the first ``width``, and add their output to those."""
        if not self.hidden:
            return made
        made, inner = made.split([self.width, self.hidden[0]], dim=2)
        for k in range(len(self.hidden)):
            offsets = getattr(self, f"offsets_{k}")[indices].to(inner.dtype)
            filters = as_filters(getattr(self, f"filters_{k}"), self.n)[indices]
            inner = per_index_conv(F.relu(inner + offsets[..., None, None]), filters, padding=1)
        return made + inner

    def _strides(self, count: int) -> tuple[int, int]:
        return max(1, round(self.n / count)), count

    def _area_kernels(self, members: int, count: int, rng: torch.Generator) -> Tensor:
        """Draw ``[members, width + hidden, dim, kh, kw]``: the first dim channels take the mean, the others noise."""
        strides = self._strides(count)
        size = [stride + 2 * self.reach for stride in strides]
        outputs = self.width + sum(self.hidden[:1])
        kernels = keys.normal(rng, members, outputs, self.dim, *size)
        kernels *= (self.dim * size[0] * size[1]) ** -0.5
        same = min(self.dim, self.width)
        kernels[:, :same] = 0
        inner = [slice(self.reach, self.reach + stride) for stride in strides]
        for c in range(same):
            kernels[:, c, c, inner[0], inner[1]] = 1 / (strides[0] * strides[1])
        return kernels
