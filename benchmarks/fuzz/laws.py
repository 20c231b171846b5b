"""What a wrapped model owes: the laws that every random model is held to."""

from __future__ import annotations

import copy
import re
import weakref
from typing import Any

import torch
from torch import Tensor, nn

import muxwrap
from benchmarks.fuzz.facts import LARGEST, NOISE, Facts, first_answer, train
from benchmarks.fuzz.model import KEPT, LENGTH, parts_of
from benchmarks.fuzz.parts import LIGHT
from benchmarks.fuzz.plan import MASKS
from benchmarks.fuzz.trunk import observed, share_of
from muxwrap import Multiplex, MuxwrapError
from muxwrap._util.fast_path import without_fast_path

LEAST_SHARE = 0.02
"""Of the bare model's multiplications; a trunk with fewer saves nothing."""

WAY_OUT = re.compile(
    r"\b(mux_at|demux_at|sites|example_input|strategy|demux|n|batch_first)=|\b(give|name|take|make|write|wrap|unwrap|set|use|put|leave)\b"
)


class FaultError(Exception):
    """A law that does not hold."""

    def __init__(self, law: str, what: object) -> None:
        super().__init__(f"{law}: {what}")
        self.law = law


def check_refusal(error: MuxwrapError, facts: Facts, before: Any) -> None:
    """A refusal tells a way out, and leaves the model as it was."""
    if not WAY_OUT.search(str(error).partition("): ")[2]):
        raise FaultError("a refusal tells the way out", error)
    check_untouched(facts.net, before, "a refusal leaves the model as it was")


def snapshot(net: nn.Module) -> Any:
    """Return all that a model is: every attribute of every module, and copies of its tensors."""
    modules = [(path, module, _attributes(module)) for path, module in net.named_modules()]
    return modules, {name: value.clone() for name, value in net.state_dict().items()}


def check_untouched(net: nn.Module, before: Any, law: str) -> None:
    """Every module, key, attribute, hook and value is what it was."""
    modules, values = before
    now = list(net.named_modules())
    if [(path, id(module)) for path, module in now] != [(path, id(module)) for path, module, _ in modules]:
        raise FaultError(law, "other modules")
    for path, module, attributes in modules:
        after = _attributes(module)
        changed = sorted(name for name in {*attributes, *after} if attributes.get(name) != after.get(name))
        if changed:
            raise FaultError(law, f"{path or 'the model'}: {', '.join(changed)}")
    for name, value in net.state_dict().items():
        if name not in values or not torch.equal(value, values[name]):
            raise FaultError(law, f"the values of {name}")


def check_bare(wrapped: Multiplex, facts: Facts, rows: int) -> None:
    """With one instance per mixture and no φ the answers are the bare model's.

    Noise is drawn in the order of the numbers in memory, which may be another one, so of a noisy model shapes alone are
    compared.
    """
    own, found = facts.answers[rows], parts_of(facts.ask(wrapped, rows))
    _compare("n=1 is the bare model", own, found, rows)
    if "noise" in facts.model.plan.blocks or _other_value(own[1], found[1], facts) is None:
        return
    with without_fast_path():  # whose layers give zero at padding, and are not used where hooks are: a head may read it
        own, found = (parts_of(facts.ask(each, rows)) for each in (muxwrap.unwrap(copy.deepcopy(wrapped)), wrapped))
    other = _other_value(own[1], found[1], facts)
    if other is not None:
        raise FaultError("n=1 is the bare model", f"{rows} rows: the values of the output{other}")


def _other_value(own: dict[str, Tensor], found: dict[str, Tensor], facts: Facts) -> str | None:
    """Return the path of an answer that is not the bare model's."""
    apart = (
        path
        for path, value in own.items()
        if not torch.allclose(_read(value, facts), _read(found[path], facts), rtol=0, atol=1e-6)
    )
    return next(apart, None)


def _read(answer: Tensor, facts: Facts) -> Tensor:
    """Return an answer without that at padded tokens, where torch's fused layers give zero and its others do not."""
    masked = any(mask in facts.model.plan.extras for mask in MASKS)
    return answer[:, :KEPT] if masked and answer.ndim > 1 and answer.shape[1] == LENGTH else answer


def check_shapes(wrapped: Multiplex, facts: Facts, rows: int) -> None:
    """As many rows come back as went in, in the bare model's structure."""
    _compare("answers as the bare model's", facts.answers[rows], parts_of(facts.ask(wrapped, rows)), rows)


def _compare(law: str, own: Any, mixed: Any, rows: int) -> None:
    if own[0] != mixed[0]:
        raise FaultError(law, f"{rows} rows: {mixed[0]} for {own[0]}")
    for path, value in own[1].items():
        if mixed[1][path].shape != value.shape:
            raise FaultError(law, f"{rows} rows: output{path} is {list(mixed[1][path].shape)} for {list(value.shape)}")
        if not bool(torch.isfinite(mixed[1][path]).all()):
            raise FaultError(law, f"{rows} rows: output{path} is not finite")


def check_trunk(wrapped: Multiplex, facts: Facts) -> float:
    """The trunk runs once per mixture, and is worth it; returns its share of the bare model's multiplications."""
    mixtures = -(-LARGEST // wrapped.n)
    plain = first_answer(facts.ask(wrapped, LARGEST))
    with observed(wrapped.backbone, wrapped.sites) as passages:
        watched = first_answer(facts.ask(wrapped, LARGEST))
    if "noise" not in facts.model.plan.blocks and not torch.allclose(plain, watched, rtol=0, atol=1e-9):
        raise FaultError("hooks of others change nothing", "the answers")
    wrong = [passage for passage in passages if passage.in_trunk and passage.has_rows(LARGEST)]
    if wrong:
        raise FaultError("the trunk runs once per mixture", wrong[0])
    share = _share(wrapped, facts)
    if not any(passage.in_trunk and passage.has_rows(mixtures) for passage in passages) and not _unseen(facts):
        raise FaultError("the trunk runs once per mixture", f"no module saw {mixtures} rows")
    return share


def _share(wrapped: Multiplex, facts: Facts) -> float:
    share = share_of(wrapped, lambda: facts.ask(wrapped.backbone, LARGEST))
    plan = facts.model.plan
    if share < LEAST_SHARE and not plan.named and not LIGHT.issuperset(plan.blocks):
        sites = "; ".join(map(str, (*wrapped.sites.mux, *wrapped.sites.demux)))
        raise FaultError("the split is worth something", f"{share:.1%} of the multiplications lie between: {sites}")
    return share


def _unseen(facts: Facts) -> bool:
    """Whether the trunk may have no module that a hook sees, or the user has named sites with nothing between."""
    plan = facts.model.plan
    by_function = ("functional", "normalized", "smaller", "embedding", "cosine", "tied")
    return plan.named or any(name in by_function for name in (*plan.blocks, plan.head))


def check_order(wrapped: Multiplex, facts: Facts) -> None:
    """A row's answer moves with its own input, and with those of its mixture alone."""
    n = wrapped.n
    filled = range(-LARGEST % n)  # the last group is filled with the first rows
    for row in range(LARGEST):
        bare, moved = facts.moved[row], facts.moves(wrapped, row)
        if bare is None or moved is None:
            raise FaultError("rows out in order", f"no answer with {LARGEST} rows")
        groups = {row // n, *([(LARGEST - 1) // n] if row in filled else [])}
        if bool(bare[row] > NOISE) and not bool(moved[row] > 1e-12):
            raise FaultError("a row's answer moves with its input", f"row {row}")
        others = [other for other in range(LARGEST) if other // n not in groups and float(moved[other]) > 1e-9]
        if others:
            raise FaultError("a row's answer is that of its mixture alone", f"row {row} moves those of rows {others}")


def check_index(wrapped: Multiplex, facts: Facts) -> None:
    """What the demuxers learn for one index reaches the rows of that index, and no other."""
    own = [p for p in wrapped.demuxers.parameters() if p.shape[:1] == (wrapped.n,) and wrapped.n > 1]
    deaf = any(moved is None or bool(moved[row] <= NOISE) for row, moved in facts.moved.items())
    if not own or wrapped.demuxer.name != "mlp" or deaf:
        return
    before = first_answer(facts.ask(wrapped, LARGEST))
    with torch.no_grad():
        for p in own:
            p[1] += 0.3
        moved = (first_answer(facts.ask(wrapped, LARGEST)) - before).abs().reshape(LARGEST, -1).amax(1) > 1e-12
        for p in own:
            p[1] -= 0.3
    rows = [row for row in range(LARGEST) if bool(moved[row])]
    if rows != list(range(1, LARGEST, wrapped.n)):
        raise FaultError("an index is a row's place in its group", f"index 1 reaches rows {rows}")


def check_training(wrapped: Multiplex, facts: Facts) -> None:
    """In training, too: the answers are as the bare model's, and every parameter gets the gradient that it gets there.

    But for models that answer the same to every row: a gradient that all mixtures have in common is not passed on.
    """
    twin = copy.deepcopy(wrapped)
    parts, largest = train(twin, facts.model)
    _compare("answers in training as the bare model's", facts.trained, parts, LARGEST)
    missing = sorted(f"backbone.{name}" for name in facts.gradients if not largest.get(f"backbone.{name}", 0.0) > NOISE)
    if missing and any(moved is not None and float(moved.max()) > NOISE for moved in facts.moved.values()):
        raise FaultError("every parameter gets a gradient", ", ".join(missing))
    idle = [name for name, p in twin.named_parameters() if not name.startswith("backbone.") and p.grad is None]
    if idle:
        raise FaultError("added parameters get a gradient", ", ".join(idle))


def check_unwrapped(wrapped: Multiplex, facts: Facts, before: Any) -> None:
    """Unwrapping gives the model back as it was, with its answers."""
    if muxwrap.unwrap(wrapped) is not facts.net:
        raise FaultError("unwrap restores the model", "another object")
    check_untouched(facts.net, before, "unwrap restores the model")
    for path, value in parts_of(facts.ask(facts.net, LARGEST))[1].items():
        if not torch.equal(value, facts.answers[LARGEST][1][path]):
            raise FaultError("unwrap restores the model", f"the values of output{path}")


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes, tensors and modules as which object they are, and containers as what they hold."""
    return {name: _frozen(value) for name, value in vars(module).items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, weakref.ref):
        return id(value())
    if isinstance(value, (Tensor, nn.Module)):
        return id(value)
    if isinstance(value, dict):
        return [(key, _frozen(part)) for key, part in value.items()]
    if isinstance(value, (list, tuple, set)):
        return [_frozen(part) for part in value]
    return value
