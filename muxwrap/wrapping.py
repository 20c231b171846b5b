"""The calls of one line: a model wrapped, and unwrapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from muxwrap._hooks.adapters import inside
from muxwrap._hooks.components import CheckFinite
from muxwrap.defaults import DemuxChoice, StrategyChoice
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex
from muxwrap.site import Sites
from muxwrap.sites import Choice


def wrap(
    backbone: nn.Module,
    n: int | Sequence[int],
    strategy: StrategyChoice = None,
    demux: DemuxChoice = None,
    *,
    mux_at: Choice = None,
    demux_at: Choice = None,
    example_input: Any = None,
    sites: Sites | None = None,
    seed: int = 0,
    check_finite: bool | CheckFinite = False,
    shuffle: bool | None = None,
) -> Multiplex:
    """Put data multiplexing into a model (DataMUX, Murahari et al., NeurIPS 2022).

    The model is attached to, not edited: its class, its parameter names and its forward stay, and :func:`unwrap` takes
    every hook off. Make the optimizer after wrapping: a wrapped model has parameters of its own.

    Args:
        backbone: any module: timm, torchvision, Transformers, or user-written.
        n: instances per mixture; 1 is the bare model. Several, such as ``(1, 2, 4, 8)``, are numbers of rows that a mixture may
            hold, divisors of the largest: ``model.n = 2`` or ``model.at(n=2)`` chooses, and a row takes as many of the largest
            number's indices as there are for it. The largest is the default.
        strategy: φ: a name of :func:`list_strategies`, a class, a ``functools.partial`` of one (for its options), or an
            instance. By default ``layout`` where a CNN reads raw images, slots elsewhere, or Hadamard codes where
            neither fits.
        demux: likewise, of :func:`list_demuxers`.
        mux_at: where to mix, see :func:`find_sites`; by default found.
        demux_at: where to separate.
        example_input: a call of the backbone, one row is enough: a tensor, a tuple of arguments or a dict of keyword
            arguments. Needed where the model's own metadata does not tell what it takes.
        sites: found sites; then nothing is searched and no example is needed.
        seed: fixes φ and the demuxer's initial values; the global random state is left alone.
        check_finite: what is done about rows with NaN or infinity where they are mixed, which would spoil every answer of
            their mixture: ``"raise"`` (or True) refuses them, ``"isolate"`` leaves them out and answers them alone with NaN;
            False passes them on. See :attr:`Multiplex.check_finite`.
        shuffle: deal the rows of a call to the mixtures and indices at random in training, drawn of torch's generator; the
            answers come back in the rows' own order. For losses that compare the rows of a batch, see
            :class:`~muxwrap.demuxers.IndexNorm`. By default they are not, with a warning where embeddings are trained.

    Returns:
        A :class:`Multiplex`. Call it as the backbone is called, with any number of rows: as many come back, in the same
        order, in the backbone's own output type, and the trunk runs on ``ceil(rows / n)`` mixtures.

    Raises:
        MuxwrapError: what cannot work; the backbone is then as it was. The message repeats the call and tells the way out.

    Warns:
        UserWarning: less than half of the operations run once per mixture, between sites that were found; see ``share`` of
            :class:`Sites`.

    Example:
        >>> resnet = timm.create_model("resnet18", num_classes=10)
        >>> model = muxwrap.wrap(resnet, n=4)
        >>> model(torch.randn(10, 3, 224, 224)).shape
        torch.Size([10, 10])
    """
    return Multiplex(
        backbone,
        n,
        strategy,
        demux,
        mux_at=mux_at,
        demux_at=demux_at,
        example_input=example_input,
        sites=sites,
        seed=seed,
        check_finite=check_finite,
        shuffle=shuffle,
    )


def unwrap(model: nn.Module) -> nn.Module:
    """Take multiplexing out and return the backbone, with its own parameter names and without a hook of ours.

    Args:
        model: a wrapped model, or one that ``torch.compile`` returned for it.

    Raises:
        MuxwrapError: the model is not wrapped.
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, Multiplex):
        inner = ", which is its .get_base_model()" if isinstance(inside(model), Multiplex) else ""
        raise MuxwrapError(
            f"unwrap({type(model).__name__}): not a wrapped model; unwrap takes what wrap returned{inner}"
        )
    return model.detach()
