"""The layers of a trained model that can be left out: those that give back what they get in the same form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from muxwrap._hooks.trunk import list_around
from muxwrap.errors import MuxwrapError
from muxwrap.sites.tracing.recording import trace
from muxwrap.sites.tracing.trace import Trace, Visit


@dataclass(frozen=True)
class Blocks:
    """The layers of a model, in the order in which they run.

    Args:
        paths: of all layers of the lists of layers.
        spare: of those that can be left out.
        tokens: whether they pass tokens ``[rows, L, dim]`` on.
        end: the module behind the last layer that reads what it returned; None where there is none.
    """

    paths: tuple[str, ...]
    spare: frozenset[str]
    tokens: bool
    end: str | None

    def kept(self, count: int) -> tuple[str, ...]:
        """Return the paths of the layers that are kept where so many are.

        The last layer of the list that has most of them is left out first; of equally long lists, that of the later one.

        Raises:
            MuxwrapError: so many cannot be left out.
        """
        lists: dict[str, list[str]] = {}
        for path in self.paths:
            lists.setdefault(path.rpartition(".")[0], []).append(path)
        for _ in range(len(self.paths) - count):
            open_ = [paths for paths in lists.values() if len(paths) > 1 and paths[-1] in self.spare]
            if not open_:
                least = sum(map(len, lists.values()))
                raise MuxwrapError(
                    f"frontier(layers={count}): {least} of {len(self.paths)} layers have to stay, since they change the form "
                    f"of what passes; give {least} or more"
                )
            max(reversed(open_), key=len).pop()
        return tuple(path for path in self.paths if path in lists[path.rpartition(".")[0]])


def blocks_of(model: nn.Module, example: Any) -> Blocks | None:
    """Return the layers of a model, found in one run; None where there is no list of layers.

    A layer is spare if it is of the make of the layer before it in its list and gives back the form that it gets.
    """
    seen = trace(model, example)
    spare = [visit for visit in seen.once if _is_spare(model, visit)]
    paths = {visit.path for visit in spare}
    outer = [v for v in spare if not any(v.path.startswith(f"{other}.") for other in paths if other != v.path)]
    lists = {list_around(model, visit.path)[0] for visit in outer}
    layers = [v for v in seen.once if list_around(model, v.path)[0] in lists and _is_item(model, v.path)]
    if not layers:
        return None
    last = layers[-1]
    tokens = last.output is not None and last.output.ndim == 3
    return Blocks(
        tuple(v.path for v in layers), frozenset(v.path for v in outer), tokens, _end(seen, last) if tokens else None
    )


def keep(model: nn.Module, blocks: Blocks, count: int) -> nn.Module:
    """Leave layers out in place, and return the model; a config that says how many there are says so of those kept.

    Raises:
        MuxwrapError: so many cannot be left out.
    """
    kept = set(blocks.kept(count))
    for parent in dict.fromkeys(path.rpartition(".")[0] for path in blocks.paths):
        held = model.get_submodule(parent)
        for name in reversed(list(held._modules)):
            if f"{parent}.{name}" in blocks.paths and f"{parent}.{name}" not in kept:
                del held._modules[name]  # the last one of its list, so that the others keep their names
    config = getattr(model, "config", None)
    if getattr(config, "num_hidden_layers", None) == len(blocks.paths):
        config.num_hidden_layers = count  # type: ignore[union-attr]
    return model


def _is_item(model: nn.Module, path: str) -> bool:
    parent, name = list_around(model, path)
    return bool(parent) and path == f"{parent}.{name}"


def _is_spare(model: nn.Module, visit: Visit) -> bool:
    if not _is_item(model, visit.path) or visit.leaf or isinstance(visit.module, (nn.Sequential, nn.ModuleList)):
        return False
    given, made = visit.input, visit.output
    if given is None or made is None or not given.floating or given.shape != made.shape:
        return False
    parent, _ = list_around(model, visit.path)
    siblings: Sequence[nn.Module] = list(model.get_submodule(parent).children())
    at = next(i for i, each in enumerate(siblings) if each is visit.module)
    return at > 0 and type(siblings[at - 1]) is type(visit.module)


def _end(seen: Trace, last: Visit) -> str | None:
    """Return the first module behind the last layer that gets all of its tokens."""
    assert last.output is not None
    readers = (v for v in seen.once if v.entered > last.left and v.input is not None and v.input.floating)
    return next((v.path for v in readers if v.input is not None and v.input.shape == last.output.shape), None)
