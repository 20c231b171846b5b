"""One bare run of a backbone, written down: which module ran when, on what, and what it gave."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrize import ParametrizationList

from muxwrap._hooks.adapters import outermost
from muxwrap._util.examples import quiet, run
from muxwrap._util.meta import on_meta, values_needed
from muxwrap._util.nested import first_tensor, named_arguments, tensors_in
from muxwrap._util.untouched import untouched
from muxwrap.errors import MuxwrapError
from muxwrap.sites.operations import OperationCounter


@dataclass(eq=False)
class Seen:
    """A tensor of the run without its memory: the run needs no more than the bare model does. One tensor has one of these.

    Args:
        shape: of the tensor, rows included.
        floating: whether it holds floats.
        memory: where its first number lay; equal for views of one tensor that begin at the same number.
        ids: the tensor itself if it may hold token ids, which are small.
    """

    shape: tuple[int, ...]
    floating: bool
    memory: object
    ids: Tensor | None = None

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
        answers: the tensors in it.
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
        self.visits = visits
        self.given = given
        self.output = output
        self.answers = answers
        self.states = states
        self.operations = operations
        counts: dict[str, int] = {}
        for visit in visits:
            counts[visit.path] = counts.get(visit.path, 0) + 1
        self.once = [visit for visit in visits if counts[visit.path] == 1]
        """The visits of modules that ran exactly once, which is what a site has to do."""
        self._at = {visit.path: visit for visit in self.once}

    def at(self, path: str) -> Visit | None:
        """Return the visit of a module that ran once."""
        return self._at.get(path)

    def leaves(self) -> list[Visit]:
        """Return the modules that ran once, have weights and called no other module, in the order of their running."""
        return [visit for visit in self.once if visit.path and visit.leaf and has_weights(visit.module)]


def has_weights(module: nn.Module) -> bool:
    """Whether a module has parameters, or the packed weights of a quantised layer, which are asked by a method."""
    return next(module.parameters(), None) is not None or callable(getattr(module, "weight", None))


def trace(backbone: nn.Module, example: Any) -> Trace:
    """Run the backbone once on ``example`` and write down every module's call.

    Raises:
        MuxwrapError: the bare backbone fails on the example.
    """
    try:
        return _traced(backbone, example, OperationCounter())
    except Exception:  # what runs may not go together with the counter, and then has to run without
        try:
            return _traced(backbone, example, None)
        except Exception as error:
            if on_meta(backbone):
                raise MuxwrapError(values_needed(backbone, f"{type(error).__name__}: {error}")) from error
            rows = getattr(first_tensor(example), "shape", ("no",))[0]
            raise MuxwrapError(
                f"the bare {type(backbone).__name__} fails on the example ({rows} rows): {type(error).__name__}: {error}; "
                "give example_input= (a tensor, a tuple of arguments or a dict of keyword arguments) that it accepts"
            ) from error


def _traced(backbone: nn.Module, example: Any, counter: OperationCounter | None) -> Trace:
    recorder = _Recorder(backbone, counter)
    try:
        with quiet(backbone), untouched(backbone), counter or nullcontext():
            torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
            output = run(backbone, example)
    finally:
        recorder.remove()
    given, answers = ([recorder.seen(tensor) for tensor in tensors_in(value)] for value in (example, output))
    states = [tensor for tensor in tensors_in(output) if recorder.is_state(tensor)]
    operations = 0 if counter is None else counter.count
    return Trace(recorder.visits, given, output, answers, states, operations)


class _Recorder:
    """Hooks on every module of a backbone that write its calls down."""

    def __init__(self, backbone: nn.Module, counter: OperationCounter | None) -> None:
        self.visits: list[Visit] = []
        self._counter = counter
        self._open: list[Visit] = []
        self._clock = 0
        self._names = _called(backbone)
        self._seen: dict[int, tuple[weakref.ref[Tensor], Seen]] = {}
        self._states: list[weakref.ref[Tensor]] = []
        self._handles = []
        for module in self._names:
            self._handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leave))

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def seen(self, tensor: Tensor) -> Seen:
        """Return what is kept of a tensor: the same object whenever the same tensor passes."""
        reference, known = self._seen.get(id(tensor), (None, None))
        if reference is None or known is None or reference() is not tensor:  # the number of a tensor that is gone
            ids = tensor if tensor.ndim == 2 and tensor.dtype in (torch.int32, torch.int64) else None
            known = Seen(tuple(tensor.shape), tensor.is_floating_point(), _memory(tensor), ids)
            self._seen[id(tensor)] = (weakref.ref(tensor), known)
        return known

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        visit = Visit(self._names[module], module, self._tick(), self._first(args, kwargs), self._operations())
        visit.given = {argument: self.seen(tensor) for argument, tensor in named_arguments(args, kwargs).items()}
        if self._open:
            self._open[-1].leaf = False
        self.visits.append(visit)
        self._open.append(visit)

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        visit = self._open.pop()
        while visit.module is not module:  # a module inside raised and was caught by the backbone
            visit = self._open.pop()
        visit.left, visit.output, visit.after = self._tick(), self._first(output), self._operations()
        if self._open:
            self._open[-1].inner += visit.after - visit.before
        if isinstance(module, nn.RNNBase):
            self._states += [weakref.ref(tensor) for tensor in tensors_in(output[1])]

    def _first(self, *values: Any) -> Seen | None:
        tensor = first_tensor(values)
        return None if tensor is None else self.seen(tensor)

    def is_state(self, tensor: Tensor) -> bool:
        """Whether a tensor is the state that a recurrent layer returned."""
        return any(state() is tensor for state in self._states)

    def _operations(self) -> float:
        return 0 if self._counter is None else self._counter.count

    def _tick(self) -> int:
        self._clock += 1
        return self._clock - 1


def _called(backbone: nn.Module) -> dict[nn.Module, str]:
    """Return the modules that pass rows on, with their paths: a parametrization makes weights of weights."""
    inside = {
        part for module in backbone.modules() if isinstance(module, ParametrizationList) for part in module.modules()
    }
    return {module: path for path, module in outermost(backbone) if module not in inside}


def _memory(tensor: Tensor) -> object:
    """Return a key for the place of a tensor in memory, which stays one of a kind after the memory was given back."""
    try:
        return StorageWeakRef(tensor.untyped_storage()), tensor.storage_offset()
    except (NotImplementedError, RuntimeError):  # sparse tensors, for one
        return object()
