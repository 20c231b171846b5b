"""The calls of one line: a model wrapped, unwrapped, and loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from muxwrap import checkpoint, demuxers, strategies
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


def load(folder: str | Path, backbone: nn.Module, *, allow_pickle: bool = False) -> Multiplex:
    """Wrap a bare backbone as the saved model was wrapped, and load every tensor, the backbone's own included.

    Args:
        folder: what :meth:`Multiplex.save_pretrained` wrote, or a checkpoint of ``transformers.Trainer``.
        backbone: a bare model of the same architecture; its weights are overwritten. Or a model wrapped as the saved one, which
            is loaded and returned: checkpoints of the Trainer hold the tensors, and not how the model was wrapped.
        allow_pickle: read files that ``save_pretrained(safe_serialization=False)`` wrote, with ``weights_only=True``.

    Raises:
        MuxwrapError: the folder holds no wrapped model, or files that are cut, changed or of several saves; a strategy or
            demuxer is not registered; the backbone is another one, or it is wrapped in another way.
    """
    return _loaded(checkpoint.read(folder, f"load({str(folder)!r})", allow_pickle=allow_pickle), backbone)


def from_pretrained(folder: str | Path, backbone: nn.Module | None = None, *, allow_pickle: bool = False) -> Multiplex:
    """Load a saved model together with its backbone, which its library makes where the folder says how.

    Args:
        folder: what :meth:`Multiplex.save_pretrained` wrote.
        backbone: a bare model of the same architecture, for one that no library makes (a class of your own, adapters); its
            weights are overwritten. Models of Transformers and of timm need none.
        allow_pickle: see :func:`load`.

    Returns:
        The wrapped model in evaluation mode; without ``backbone=`` in the dtypes in which it was saved.

    Raises:
        MuxwrapError: as for :func:`load`; or ``backbone`` is needed, or the library is not installed.

    Example:
        >>> model = muxwrap.from_pretrained("folder")
    """
    saved = checkpoint.read(folder, f"from_pretrained({str(folder)!r})", allow_pickle=allow_pickle)
    made = checkpoint.make_backbone(saved) if backbone is None else backbone
    return _loaded(saved, made, as_saved=backbone is None).eval()


def _loaded(saved: checkpoint.Saved, backbone: nn.Module, *, as_saved: bool = False) -> Multiplex:
    if isinstance(backbone, Multiplex):
        model, rows = backbone, checkpoint.load_into(backbone, backbone._components(), saved)
        if rows in model.sizes:
            model.n = rows
    else:
        model = _wrapped_as(saved, backbone)
        try:
            checkpoint.fill(model, saved, as_saved=as_saved)
        except MuxwrapError:
            model.detach()
            raise
    model._unknown = checkpoint.unknown_fields(saved.config or {})
    return model


def _wrapped_as(saved: checkpoint.Saved, backbone: nn.Module) -> Multiplex:
    config = saved.wrapping
    phi, demux, sites = config["strategy"], config["demux"], saved.sites
    try:
        model = Multiplex(
            backbone,
            config.get("sizes", config["n"]),
            partial(strategies.registry.get(phi["name"]), **phi["options"]),
            partial(demuxers.registry.get(demux["name"]), **demux["options"]),
            sites=sites,
            check_finite=config["check_finite"],
            shuffle=config.get("shuffle"),
        )
    except MuxwrapError as error:
        raise MuxwrapError(f"{saved.shown}: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:
        raise MuxwrapError(
            f"{saved.shown}: the model cannot be wrapped as {checkpoint.CONFIG} says ({type(error).__name__}: {error}); give "
            "the backbone that was saved, or save the model again"
        ) from error
    rows = config.get("rows", config["n"])
    if model.sizes[-1] != config["n"] or rows not in model.sizes:
        model.detach()
        raise MuxwrapError(
            f"{saved.shown}: {checkpoint.CONFIG} says n={config['n']!r} of sizes {model.sizes} and {rows!r} rows per mixture, "
            "which contradict each other; save the model again"
        )
    model.n = rows
    model.largest = config.get("largest")
    return model
