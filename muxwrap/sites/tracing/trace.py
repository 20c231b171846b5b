"""One bare run of a backbone, written down: which module ran when, on what, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(eq=False)
class Seen:
    """A tensor of the run without its memory: the run needs no more than the bare model does. One tensor has one of these.

    Args:
        shape: of the tensor, rows included.
        floating: whether it holds floats.
        memory: where its first number lay; equal for views of one tensor that begin at the same number.
        ids: the tensor itself if it may hold token ids, which are small.
        constant: whether the features of all rows are the same, though those of the call differ: learned queries.
    """

    shape: tuple[int, ...]
    floating: bool
    memory: object
    ids: Tensor | None = None
    constant: bool = False

    @property
    def ndim(self) -> int:
        """How many axes the tensor has."""
        return len(self.shape)


@dataclass
class Visit:
    """One call of one module during the run.

    Args:
        path: of the module.
        module: itself.
        entered: when the call began.
        input: the first tensor that was given.
        before: operations of the run until then.
        left: when the call ended.
        output: the first tensor that was returned.
        after: operations of the run until then.
        given: every tensor among the arguments, by its path.
        leaf: whether no other module was called inside.
        layer: whether it is a layer with weights: a leaf, or what does most of its work itself. Known of a whole trace.
        inner: operations of the modules that were called inside.
    """

    path: str
    module: nn.Module
    entered: int
    input: Seen | None
    before: float
    left: int = -1
    output: Seen | None = None
    given: dict[str, Seen] = field(default_factory=dict)
    after: float = 0
    leaf: bool = True
    layer: bool = False
    inner: float = 0

    @property
    def own(self) -> float:
        """Operations of the module without those of the modules that it called."""
        return self.after - self.before - self.inner


class Trace:
    """The visits of one run.

    Args:
        visits: in the order in which the modules were entered.
        given: the tensors of the call.
        output: what the backbone returned.
        answers: the tensors in it, and behind them those that objects in it hold.
        states: those of them that a recurrent layer returned beside its answer.
        operations: of the whole run; 0 if they could not be counted.
    """

    def __init__(
        self,
        visits: list[Visit],
        given: list[Seen],
        output: Any,
        answers: list[Seen],
        states: list[Tensor],
        operations: float,
    ) -> None:
        _find_layers(visits)
        self.visits = visits
        self.given = given
        self.output = output
        self.answers = answers
        self.states = states
        self.operations = operations
        counts: dict[str, int] = {}
        for visit in visits:
            counts[visit.path] = counts.get(visit.path, 0) + 1
        self.encoder, first = shared_encoder(visits, counts)
        """The first call of a module that encodes several inputs, one per call, or None."""
        self.calls = {visit.path: counts[visit.path] for visit in first}
        """How often modules inside of that encoder ran, where that is once per input."""
        inside = set(map(id, first))
        self.once = [visit for visit in visits if counts[visit.path] == 1 or id(visit) in inside]
        """The visits of modules that ran once, as a site has to, or once per input of an encoder: the first of them."""
        self._at = {visit.path: visit for visit in self.once}

    def at(self, path: str) -> Visit | None:
        """Return the visit of a module that ran once, or once per input of an encoder."""
        return self._at.get(path)

    def leaves(self) -> list[Visit]:
        """Return the layers of ``once``, in the order of their running."""
        return [visit for visit in self.once if visit.path and visit.layer]


def _find_layers(visits: list[Visit]) -> None:
    """Tell layers, and what is inside of them from those: a block that does most of its work with weights of its own is one."""
    until = -1
    for visit in visits:
        if visit.entered < until:
            continue
        whole = bool(visit.path) and visit.own > visit.inner and _has_most_weights(visit.module)
        visit.layer = whole or (visit.leaf and has_weights(visit.module))
        until = visit.left if visit.layer else until


def _has_most_weights(module: nn.Module) -> bool:
    """Whether a module's own parameters are more than those of the modules inside."""
    own = sum(p.numel() for p in module.parameters(recurse=False))
    return own > sum(p.numel() for p in module.parameters()) - own


def shared_encoder(visits: list[Visit], counts: dict[str, int]) -> tuple[Visit | None, list[Visit]]:
    """Return the first call of a module that encodes several inputs, and what runs in it: siamese networks.

    It is given one tensor per call, another one of the same shape each time, which no layer made; the modules inside do the
    same in every call.
    """
    layers = [visit for visit in visits if visit.leaf and has_weights(visit.module)]
    made = {visit.output.memory for visit in layers if visit.output is not None}
    calls: dict[str, list[Visit]] = {}
    for visit in visits:
        if (
            visit.path
            and not visit.leaf
            and len(visit.given) == 1
            and visit.input is not None
            and has_weights(visit.module)
        ):
            calls.setdefault(visit.path, []).append(visit)
    for path, found in calls.items():
        read = {visit.input.memory: visit.input.shape for visit in found if visit.input is not None}
        if not 1 < len(found) == counts[path] == len(read) or read.keys() & made or len({*read.values()}) > 1:
            continue
        inside = [visit for visit in visits if found[0].entered <= visit.entered < found[0].left]
        if all(counts[visit.path] == len(found) for visit in inside):
            return found[0], inside
    return None, []


def has_weights(module: nn.Module) -> bool:
    """Whether a module has parameters, or the packed weights of a quantised layer, which are asked by a method."""
    return next(module.parameters(), None) is not None or callable(getattr(module, "weight", None))


def has_matrix(module: nn.Module) -> bool:
    """Whether a module has weights of two axes or more, as layers have and norms have not."""
    return any(p.ndim > 1 for p in module.parameters()) or callable(getattr(module, "weight", None))
