"""Making a trace: hooks on every module write a bare run down, and are taken off again."""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrize import ParametrizationList

from muxwrap._hooks.adapters import outermost
from muxwrap._util.examples import Example, quiet, run
from muxwrap._util.held import all_named_tensors
from muxwrap._util.meta import is_meta, on_meta, values_needed
from muxwrap._util.nested import first_tensor, named_arguments, tensors_in
from muxwrap._util.untouched import untouched
from muxwrap.errors import MuxwrapError
from muxwrap.sites.tracing.operations import OperationCounter
from muxwrap.sites.tracing.trace import Seen, Trace, Visit


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
    recorder = _Recorder(backbone, counter, _rows_differ(example))
    try:
        with quiet(backbone), untouched(backbone), counter or nullcontext():
            torch.manual_seed(0)  # for models that draw random numbers in evaluation mode
            output = run(backbone, example)
    finally:
        recorder.remove()
    given = [recorder.seen(tensor) for tensor in tensors_in(example)]
    answers = [recorder.seen(tensor) for _, tensor in all_named_tensors(output)]
    states = [tensor for tensor in tensors_in(output) if recorder.is_state(tensor)]
    operations = 0 if counter is None else counter.count
    return Trace(recorder.visits, given, output, answers, states, operations)


class _Recorder:
    """Hooks on every module of a backbone that write its calls down."""

    def __init__(self, backbone: nn.Module, counter: OperationCounter | None, rows_differ: bool) -> None:
        self.visits: list[Visit] = []
        self._rows_differ = rows_differ
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
            constant = self._rows_differ and _is_constant(tensor)
            known = Seen(tuple(tensor.shape), tensor.is_floating_point(), _memory(tensor), ids, constant)
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


def _rows_differ(example: Any) -> bool:
    """Whether a call has two rows, which are not alike in any tensor of rows."""
    of_rows = example.tensors_with_rows() if isinstance(example, Example) else []
    return bool(of_rows) and all(len(x) == 2 and not is_meta(x) and not torch.equal(x[0], x[1]) for x in of_rows)


def _is_constant(tensor: Tensor) -> bool:
    """Whether a tensor holds features ``[2, tokens, features]``, the same in both rows; a mask of nothing holds one number."""
    if tensor.ndim < 3 or tensor.shape[0] != 2 or not tensor.is_floating_point() or tensor.layout is not torch.strided:
        return False
    return torch.equal(tensor[0], tensor[1]) and bool((tensor != tensor.flatten()[:1]).any())


def _memory(tensor: Tensor) -> object:
    """Return a key for the place of a tensor in memory, which stays one of a kind after the memory was given back."""
    try:
        return StorageWeakRef(tensor.untyped_storage()), tensor.storage_offset()
    except (NotImplementedError, RuntimeError):  # sparse tensors, for one
        return object()
