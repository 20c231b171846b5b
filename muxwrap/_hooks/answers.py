"""What came back from a call: whether every answer has the batch's rows."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._hooks.call import Call
from muxwrap._hooks.listed import listed
from muxwrap._util.held import all_named_tensors
from muxwrap._util.nested import tensors_in
from muxwrap._util.untouched import untouched
from muxwrap.errors import MuxwrapError

_OF_THE_TRUNK = (
    "hidden_states",
    "attentions",
    "encoder_last_hidden_state",
    "past_key_values",
    "mems",
    "router_logits",
)


def of_the_trunk(name: object) -> bool:
    """Whether an entry of a Transformers output belongs to the mixtures, such as ``decoder_hidden_states``."""
    return isinstance(name, str) and (name.startswith(_OF_THE_TRUNK) or name.endswith(_OF_THE_TRUNK))


class AnswerCheck:
    """Refuses answers that have a row per mixture where the bare model has one per row of the batch.

    Heads that run in training only, or that an argument chooses, are not among the sites that were found in evaluation.
    """

    def __init__(self) -> None:
        self._known: set[tuple[str, int]] = set()
        """Where an answer of so many rows has them in the bare model, too: prototypes, anchors."""

    def check(self, call: Call, args: Any, kwargs: Any, output: Any) -> None:
        """Compare the answers' rows with the batch's; a suspect is compared with the bare model's answer.

        Raises:
            MuxwrapError: an answer belongs to mixtures.
        """
        suspects = {
            path: x for path, x in _of_mixtures(call, args, kwargs, output) if (path, call.mixtures) not in self._known
        }
        if not suspects:
            return
        bare, states = _bare_answers(call, args, kwargs)
        names = _names(call, args, kwargs) if type(output) is tuple else {}
        for path, x in suspects.items():
            own = bare.get(path)
            if any(own is state for state in states) or of_the_trunk(names.get(path)):
                continue
            if own is None and x.is_meta:  # a list, where the bare model has none of these
                continue
            axes = [k for k, size in enumerate(x.shape) if size == call.mixtures and _size(own, k) == call.rows]
            if axes or (x.shape[:1] == (call.mixtures,) and _size(own, 0) != call.mixtures):
                raise MuxwrapError(
                    f"output{path} has a row for each of the {call.mixtures} mixtures and not for each of the {call.rows} "
                    "rows of the batch: what made it runs on mixtures and is not separated. Separate before the heads part, "
                    "with demux_at= the module whose output they all read ('path@output'), give sites= with a Site of this "
                    "head after that of the first one, or leave this output out"
                )
        self._known.update((path, call.mixtures) for path in suspects)  # type: ignore[misc]


def _of_mixtures(call: Call, args: Any, kwargs: Any, output: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the answers that have as many rows as there are mixtures, on any axis, and their paths."""
    # Not asked of traced code, whose sizes may be free.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or call.mixtures == call.rows:
        return
    if type(output) is tuple and hasattr(call.model.backbone, "main_input_name"):
        # A Transformers output without names: the answers are tensors, the trunk's states tuples of them.
        output = tuple(part if isinstance(part, Tensor) else None for part in output)
    for path, tensor in _sizes(output, skip=of_the_trunk):
        of_rows = tensor.shape[:1] == (call.rows,)
        if (
            call.mixtures in tensor.shape
            and not of_rows
            and not is_attention(tensor, lengths_in((args, kwargs)), call.model.training)
        ):
            yield path, tensor


def _sizes(output: Any, skip: Callable[[object], bool] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an output, and those that stand for its lists and arrays, by their paths."""
    yield from all_named_tensors(output, skip)
    yield from listed(output, skip=skip)


def is_attention(x: Tensor, lengths: Container[int], dropped: bool = False) -> bool:
    """Whether a tensor holds weights of attention, ``[..., queries, keys]``: they sum to one.

    Args:
        x: a tensor that was returned.
        lengths: of sequences in the call. Keys are as many as queries, or as one of these; classes are not.
        dropped: whether dropout may have gone over them; then they sum to one on average.
    """
    if x.ndim < 3 or not x.is_floating_point() or not x.numel():
        return False
    if x.shape[-1] != x.shape[-2] and x.shape[-1] not in lengths:
        return False
    x = x.detach().float()
    sums = x.sum(-1)
    if not dropped:
        return bool((x >= 0).all()) and bool(((sums - 1).abs() < 0.02).all())  # rounded to half precision at the most
    error = float(sums.std(correction=0)) / sums.numel() ** 0.5
    return bool((x >= 0).all()) and abs(float(sums.mean()) - 1) < 0.01 + 4 * error


def lengths_in(call: Any) -> set[int]:
    """Return the sizes of the axis after that of rows, of every tensor in the arguments of a call."""
    return {tensor.shape[1] for tensor in tensors_in(call) if tensor.ndim > 1}


def _size(x: Tensor | None, axis: int) -> int | None:
    return None if x is None or x.ndim <= axis else x.shape[axis]


def _bare_answers(call: Call, args: Any, kwargs: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the bare model's answers by their paths, and the states that recurrent layers returned on the way.

    Such a state belongs to the mixtures, as attention does: it is what the layer would go on from.
    """
    states: list[Tensor] = []
    recurrent = [module for module in call.model.backbone.modules() if isinstance(module, nn.RNNBase)]
    handles = [
        module.register_forward_hook(lambda _module, _args, output: states.extend(tensors_in(output[1])))
        for module in recurrent
    ]
    try:
        return dict(_sizes(bare_output(call, args, kwargs))), states
    finally:
        for handle in handles:
            handle.remove()


def _names(call: Call, args: Any, kwargs: Any) -> dict[str, str]:
    """Return by their paths what a Transformers model calls the entries of its output, where it returns a tuple of them."""
    if not hasattr(call.model.backbone, "main_input_name"):
        return {}
    named = bare_output(call, args, {**kwargs, "return_dict": True})
    return {f"[{at}]": name for at, name in enumerate(named)} if isinstance(named, Mapping) else {}


def bare_output(call: Call, args: Any, kwargs: Any) -> Any:
    """Return what the bare model makes of a call's arguments, or None where it fails; nothing of it is left behind.

    It is asked outside of the running call. Where processes work together it is not, since the others may not ask.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None
    backbone = call.model.backbone
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}  # batch norms count what they see
    try:
        with torch.no_grad(), torch.random.fork_rng(), untouched(backbone):
            return torch.func.functional_call(backbone, buffers, args, kwargs)
    except Exception:
        return None
