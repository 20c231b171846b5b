"""The calls of one line: a saved model loaded again, with its backbone given or made."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import nn

from muxwrap import checkpoint, demuxers, strategies
from muxwrap._hub.repositories import folder_of
from muxwrap.errors import MuxwrapError
from muxwrap.multiplex import Multiplex


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


def from_pretrained(
    name: str | Path,
    backbone: nn.Module | None = None,
    *,
    allow_pickle: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Multiplex:
    """Load a saved model together with its backbone, which its library makes where the files say how.

    Args:
        name: a folder that :meth:`Multiplex.save_pretrained` wrote, or a repository of the Hugging Face hub, ``"user/name"``,
            from which its files alone are downloaded (``pip install 'muxwrap[hub]'``).
        backbone: a bare model of the same architecture, for one that no library makes (a class of your own, adapters); its
            weights are overwritten. Models of Transformers, timm and torchvision need none.
        allow_pickle: see :func:`load`.
        revision: of a repository: a branch, a tag or a commit.
        token: by default that of ``hf auth login``.
        cache_dir: where downloads are kept.
        force_download: download again what is there.
        local_files_only: take what was downloaded before.

    Returns:
        The wrapped model in evaluation mode; without ``backbone=`` in the dtypes in which it was saved.

    Raises:
        MuxwrapError: as for :func:`load`; or there is no such folder or repository, ``backbone`` is needed, or a library is
            not installed.

    Example:
        >>> model = muxwrap.from_pretrained("folder")
    """
    folder = folder_of(
        name,
        checkpoint.files(allow_pickle),
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        force_download=force_download,
        local_files_only=local_files_only,
    )
    saved = checkpoint.read(folder, f"from_pretrained({str(name)!r})", allow_pickle=allow_pickle)
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
    cost = config.get("cost")
    model._cost = float(cost) if isinstance(cost, (int, float)) else None
    try:
        model.largest = config.get("largest")
    except MuxwrapError as error:
        model.detach()
        raise MuxwrapError(f"{saved.shown}: {error}; or save the model again") from error
    return model
