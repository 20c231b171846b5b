"""What came back from a call: whether every answer has the batch's rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from muxwrap._hooks.call import Call
from muxwrap._util.nested import named_tensors
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
        suspects = [path for path in _of_mixtures(call, output) if (path, call.mixtures) not in self._known]
        if not suspects:
            return
        bare = dict(named_tensors(bare_output(call, args, kwargs)))
        for path in suspects:
            if path not in bare or bare[path].shape[:1] != (call.mixtures,):
                raise MuxwrapError(
                    f"output{path} has a row for each of the {call.mixtures} mixtures and not for each of the {call.rows} "
                    "rows of the batch: what made it runs on mixtures and is not separated. Separate before the heads part, "
                    "with demux_at= the module whose output they all read ('path@output'), give sites= with a Site of this "
                    "head after that of the first one, or leave this output out"
                )
        self._known.update((path, call.mixtures) for path in suspects)  # type: ignore[misc]


def _of_mixtures(call: Call, output: Any) -> Iterator[str]:
    """Yield the paths of the answers with as many rows as there are mixtures."""
    # Not asked of traced code, whose sizes may be free.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or call.mixtures == call.rows:
        return
    if type(output) is tuple and hasattr(call.model.backbone, "main_input_name"):
        # A Transformers output without names: the answers are tensors, the trunk's states tuples of them.
        output = tuple(part if isinstance(part, Tensor) else None for part in output)
    for path, tensor in named_tensors(output, skip=of_the_trunk):
        if tensor.shape[:1] == (call.mixtures,) and not is_attention(tensor):
            yield path


def is_attention(x: Tensor) -> bool:
    """Whether a tensor holds weights of attention, ``[..., queries, keys]``: they sum to one, under dropout on average."""
    if x.ndim < 3 or not x.is_floating_point() or not x.numel():
        return False
    x = x.detach().float()
    sums = x.sum(-1)
    error = float(sums.std(correction=0)) / sums.numel() ** 0.5
    return bool((x >= 0).all()) and abs(float(sums.mean()) - 1) < 0.01 + 4 * error


def bare_output(call: Call, args: Any, kwargs: Any) -> Any:
    """Return what the bare model makes of a call's arguments, or None where it fails; nothing of it is left behind.

    It is asked outside of the running call. Where processes work together it is not, since the others may not ask.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return None
    backbone = call.model.backbone
    buffers = {name: value.clone() for name, value in backbone.named_buffers()}  # batch norms count what they see
    try:
        with torch.no_grad(), torch.random.fork_rng():
            return torch.func.functional_call(backbone, buffers, args, kwargs)
    except Exception:
        return None
