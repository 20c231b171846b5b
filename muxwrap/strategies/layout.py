"""Every image learned into a cell of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from muxwrap.errors import MuxwrapError, check_dim
from muxwrap.strategies.base import strategies
from muxwrap.strategies.grid import cells, resize, row_counts, side_by_side
from muxwrap.strategies.spatial import Spatial


@strategies.register("layout")
class Layout(Spatial):
    """φ_i(x) = c_i(x) written into the i-th cell of the mixture, c_i a strided convolution of its own for every index.

    The learned ``remap``: instances never disturb each other in the mixture, which has the images' own size, and training
    decides what is worth keeping of each. A cell of a row of r cells is reached with the stride (n / r, r), rounded; an
    image whose sides the strides do not divide is first resized a little, by area. At the start the first dim channels
    of c_i are the area interpolation of ``remap``, any further ones random filters.

    Cost: channels·dim·(stride + 2·reach)² multiplications a pixel of the mixture, whatever n is; with ``hidden``, 9
    times the product of neighbouring widths for each layer, pixel and *instance* more.

    Args:
        n: instances in a mixture.
        dim: channels of the images.
        channels: channels of the mixture, dim by default; with others the stem is widened. Images with one channel keep
            only 1/n of their numbers otherwise.
        reach: pixels that a convolution reads beyond its stride on each side, so that neighbouring fields overlap.
        hidden: widths of convolutions 3x3 with ReLU, an own one for every index; what they find is added to the strided
            convolution's output through another strided one, which starts at zero.
        learnable: train the convolutions (the default here).
        scale: ``"sum"`` by default, since cells do not add up.
        seed: fixes the random part of the start.

    Raises:
        MuxwrapError: a bad ``n``, ``dim``, ``channels``, ``reach``, ``hidden`` or ``scale``, or (at the first mixture)
            an image with fewer pixels than cells.
    """

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
        self.counts = row_counts(n)
        generator = self.generator()
        before = self.dim
        for k, width in enumerate(self.hidden):
            noise = torch.randn(n, width, before, 3, 3, generator=generator, device="cpu", dtype=torch.float32)
            self.set_keys(f"filters_{k}", noise * (2 / (9 * before)) ** 0.5)  # He's variance, for the ReLU
            self.set_keys(f"offsets_{k}", torch.zeros(n, width, device="cpu", dtype=torch.float32))
            before = width
        for count in dict.fromkeys(self.counts):  # rows of one length share a shape of kernels
            members = count * self.counts.count(count)
            self.set_keys(f"kernels_{count}", self._area_kernels(members, count, generator))
            if self.hidden:
                size = [stride + 2 * reach for stride in self._strides(count)]
                start = torch.zeros(members, self.width, before, *size, device="cpu", dtype=torch.float32)
                self.set_keys(f"found_{count}", start)

    @property
    def width(self) -> int:
        """Channels of the mixture."""
        return self.dim if self.channels is None else self.channels

    def bind(self, x: Tensor) -> Tensor:
        """Write c_i(x_i) into cell i, zeros elsewhere: ``[g, n, dim, H, W] -> [g, n, width, H, W]``."""
        height, width = x.shape[-2:]
        bound = []
        for part, (top, left, h, w) in zip(self._parts(x), cells(self.counts, height, width), strict=True):
            bound.append(F.pad(part, (left, width - left - w, top, height - top - h)))
        return torch.stack(bound, dim=1)

    def mix(self, x: Tensor) -> Tensor:
        """Put the cells side by side; nothing larger than one mixture is held."""
        return side_by_side(self._parts(x), self.counts) * self.factor

    def _parts(self, x: Tensor) -> list[Tensor]:
        """Return c_i(x_i), ``[g, width, height of cell i, width of cell i]``."""
        places = cells(self.counts, *x.shape[-2:])
        found = self._find(x) if self.hidden else None
        lengths = [count for count in self.counts for _ in range(count)]  # of the row of every index
        seen = dict.fromkeys(lengths, 0)
        alike: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
        for i, (count, cell) in enumerate(zip(lengths, places, strict=True)):
            alike.setdefault((count, cell.height, cell.width), []).append((i, seen[count]))
            seen[count] += 1
        parts: dict[int, Tensor] = {}
        for (count, height, width), members in alike.items():  # cells of one shape in one grouped convolution
            indices, rows = (list(which) for which in zip(*members, strict=True))
            made = self._shrink(x, indices, getattr(self, f"kernels_{count}")[rows], count, height, width)
            if found is not None:
                kernels = getattr(self, f"found_{count}")[rows]
                made = made + self._shrink(found, indices, kernels, count, height, width)
            parts.update(zip(indices, made.unbind(1), strict=True))
        return [parts[i] for i in range(self.n)]

    def _shrink(self, x: Tensor, indices: list[int], kernels: Tensor, count: int, height: int, width: int) -> Tensor:
        """Convolve the chosen instances of ``[g, n, C, H, W]``, each with its kernel, to ``[g, chosen, width, h, w]``."""
        stride = self._strides(count)
        chosen = x if len(indices) == self.n else x[:, indices]
        chosen = resize(chosen, height * stride[0], width * stride[1])
        made = per_index_conv(chosen, kernels, stride=stride, padding=self.reach)
        return made.unflatten(1, (len(indices), self.width))

    def _find(self, x: Tensor) -> Tensor:
        for k, width in enumerate(self.hidden):
            offsets = getattr(self, f"offsets_{k}").to(x.dtype).flatten()
            x = F.relu(per_index_conv(x, getattr(self, f"filters_{k}"), offsets, padding=1)).unflatten(1, (-1, width))
        return x

    def _strides(self, count: int) -> tuple[int, int]:
        return max(1, round(self.n / count)), count

    def _area_kernels(self, members: int, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``[members, width, dim, kh, kw]``: the mean over the stride for the first dim channels, else noise."""
        strides = self._strides(count)
        size = [stride + 2 * self.reach for stride in strides]
        kernels = torch.randn(
            members, self.width, self.dim, *size, generator=generator, device="cpu", dtype=torch.float32
        )
        kernels *= (self.dim * size[0] * size[1]) ** -0.5
        same = min(self.dim, self.width)
        kernels[:, :same] = 0
        inner = [slice(self.reach, self.reach + stride) for stride in strides]
        for c in range(same):
            kernels[:, c, c, inner[0], inner[1]] = 1 / (strides[0] * strides[1])
        return kernels


def per_index_conv(
    x: Tensor, kernels: Tensor, offsets: Tensor | None = None, *, stride: tuple[int, int] = (1, 1), padding: int = 0
) -> Tensor:
    """Convolve instance i of ``[g, n, C, H, W]`` with ``kernels[i]`` ``[C', C, kh, kw]`` to ``[g, n·C', H', W']``."""
    weights = kernels.to(x.dtype).flatten(0, 1)
    return F.conv2d(x.flatten(1, 2), weights, offsets, stride=stride, padding=padding, groups=x.shape[1])
