"""A score over several random groupings of a whole data set."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from muxwrap._util.examples import quiet, run
from muxwrap._util.nested import map_tensors
from muxwrap._util.progress import progress_bar
from muxwrap.errors import MuxwrapError
from muxwrap.evaluation.batches import Labels, read
from muxwrap.evaluation.dealing import groupings as deal
from muxwrap.evaluation.result import Evaluation
from muxwrap.evaluation.rows import Rows
from muxwrap.evaluation.scorer import Scorer
from muxwrap.evaluation.tally import Tally
from muxwrap.evaluation.tasks import find_outputs
from muxwrap.multiplex import Multiplex


def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    metric: Any = None,
    groupings: int = 5,
    seed: int = 0,
    *,
    labels: Labels = None,
    reference: nn.Module | None = None,
    per_index: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Score a model under several random groupings of a data set: ``print(muxwrap.evaluate(model, loader))``.

    A prediction depends on the rows that share its mixture, so one order of the data is one draw. Here the rows of all
    batches are dealt anew to mixtures in every grouping, and every row is scored in each, also those of an incomplete last
    group. A bare model (or n = 1) has one grouping. The model runs in evaluation mode, without gradients, on its own
    device, in calls as large as the largest given batch (rounded up to whole groups). Its modes and the global random
    state are as before afterwards. Autocast is up to the caller.

    Batches are read once and held, where they are, until the end; a generator will do. Where the batches are padded to
    different lengths and have an ``attention_mask`` ``[rows, L]``, rows of like length meet, cut and padded anew (``input_ids``
    with the config's ``pad_token_id``, labels of tokens with -100, all else with 0); see
    :class:`~muxwrap.samplers.LengthBatches`. Without a mask only rows of equal shapes meet.

    Args:
        model: a wrapped model, a module around one, or a bare model.
        batches: a ``DataLoader`` or any iterable of ``(inputs, labels)`` pairs, the inputs a tensor, a tuple of arguments or
            a dict of keyword arguments; or of dicts with ``labels`` (or ``label``), as Hugging Face's collators make them.
            Columns of such a dict that the model's forward does not name are left out. The model does not get the labels.
            The outputs are the tensor that the model returns, ``logits`` of what it returns, or the first tensor in it that
            has a row per row.
        metric: by default accuracy: of classes ``[rows, C]`` with integer labels ``[rows]``; of tokens ``[rows, L, C]`` with
            labels ``[rows, L]``, where -100 is left out; of several labels ``[rows, C]``, zeros and ones, where a row is right
            if all of its labels are (outputs above 0). For regression (``[rows]`` or ``[rows, 1]``) it must be named, such as
            ``torch.nn.functional.mse_loss``, which is the default only where a Transformers config has
            ``problem_type="regression"`` or ``num_labels=1``. Either a function ``(outputs, labels) -> float``, which gets
            all rows in the order of the batches, on the CPU, shorter rows of tokens padded (labels with -100); or an object
            with ``update``, ``compute`` and ``reset`` as torchmetrics has, of which a copy gets the rows, or the tokens
            that have a label. What has ``higher_is_better = False``, or a name that ends in ``_loss`` or ``_error``, is
            better when it is low.
        groupings: how many.
        seed: of the first grouping; see :func:`~muxwrap.evaluation.groupings`.
        labels: the labels' key in the batches, or a function from a batch to its labels.
        reference: a bare model; how often the predictions are its predictions is the result's ``agreement``. (The wrapped
            model's own backbone has been trained on mixtures, and alone it mostly answers nothing useful.)
        per_index: also score the rows at every index on their own; False for a metric that cannot score so few rows.
        progress: show a bar, if tqdm is installed.

    Raises:
        MuxwrapError: no batches or labels, inputs that cannot be dealt anew, labels that do not fit the outputs, a metric
            without a number, or a reference whose predictions cannot be compared.
    """
    n = _check(model, groupings, reference)
    core = _core(model)
    config = getattr(core, "config", None)
    with quiet(model), contextlib.nullcontext() if reference is None else quiet(reference):
        rows = Rows(read(batches, labels, core), getattr(config, "pad_token_id", None) or 0)
        scorer = Scorer(metric, rows, config, reference is not None)
        dealt = list(_deal(rows, n, groupings, seed))
        alone = [] if reference is None else next(_deal(rows, 1, 1, seed))
        with progress_bar(sum(map(len, dealt)) + len(alone), "evaluate", shown=progress) as tick:
            tally = Tally(scorer, n, per_index)
            for batches_of_rows in dealt:
                tally.add(*_answer(model, rows, batches_of_rows, n, scorer, tick))
            if reference is not None:
                tally.compare(_answer(reference, rows, alone, 1, scorer, tick)[0])
    return tally.result(len(rows))


def _answer(
    model: nn.Module, rows: Rows, batches: list[Tensor], n: int, scorer: Scorer, tick: Callable[..., None]
) -> tuple[Tensor, Tensor]:
    """Run all batches of row numbers; return what is kept of every row, and at which index it stood."""
    device = next((parameter.device for parameter in model.parameters()), None)
    index, parts = torch.zeros(len(rows), dtype=torch.long), []
    for batch in batches:
        inputs = rows.take(batch)
        output = run(model, inputs if device is None else map_tensors(inputs, lambda tensor: tensor.to(device)))
        parts.append((batch, scorer.keep(find_outputs(output, len(batch), model), rows.labels_of(batch))))
        index[batch] = torch.arange(len(batch)) % n
        tick()
    return rows.join(parts), index


def _deal(rows: Rows, n: int, count: int, seed: int) -> Iterator[list[Tensor]]:
    """Yield every grouping as batches of row numbers; rows that cannot be collated do not meet."""
    kinds = rows.kinds()
    lengths = [None if rows.lengths is None else rows.lengths[kind] for kind in kinds]
    dealt = [
        deal(len(kind), n, count, seed, batch=rows.largest, lengths=each)
        for kind, each in zip(kinds, lengths, strict=True)
    ]
    for grouping in zip(*dealt, strict=True):
        yield [kind[batch] for kind, batches in zip(kinds, grouping, strict=True) for batch in batches]


def _check(model: object, groupings: object, reference: object) -> int:
    """Return n, or refuse the arguments."""
    for name, given in (("model", model), *((("reference", reference),) if reference is not None else ())):
        if not isinstance(given, nn.Module):
            raise MuxwrapError(f"evaluate({name}={given!r}): a {type(given).__name__} is not a torch.nn.Module")
    if isinstance(groupings, bool) or not isinstance(groupings, int) or groupings < 1:
        raise MuxwrapError(f"evaluate(groupings={groupings!r}): the number of groupings is an int >= 1")
    if reference is not None and _instances(reference) > 1:
        raise MuxwrapError(
            f"evaluate(reference={type(reference).__name__}): its predictions depend on companions too; give a bare model"
        )
    return _instances(model)


def _instances(model: Any) -> int:
    """Return how many rows share a mixture, 1 for a bare model."""
    return next((module.n for module in model.modules() if isinstance(module, Multiplex)), 1)


def _core(model: nn.Module) -> nn.Module:
    """Return the model whose forward names the arguments, inside of what compiled or distributed it."""
    return getattr(model, "_orig_mod", getattr(model, "module", model))
