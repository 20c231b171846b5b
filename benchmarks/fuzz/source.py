"""From a plan to Python: the class of the model, as a user would have written it."""

from __future__ import annotations

import textwrap

from benchmarks.fuzz.parts import BLOCKS, HEADS, POOLS, RARE, SOURCES, Part
from benchmarks.fuzz.plan import MASKS, Plan

_HEADER = """\
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
"""

_MEANS = {"vector": "h", "sequence": "h.mean(1)", "steps": "h.mean(0)", "signal": "h.mean(2)", "map": "h.mean((2, 3))"}


def argument_names(plan: Plan) -> list[str]:
    """Return the names of the tensors that the model is given."""
    masks = [mask for mask in MASKS if mask in plan.extras]
    return [*SOURCES[plan.source].arguments, *masks, *(["labels"] if "labels" in plan.extras else [])]


def code_of(plan: Plan) -> str:
    """Return the source text that defines the model's class, ``Net``, and those of its input and output."""
    names = argument_names(plan)
    made, body = _trunk(plan)
    head_made, head = HEADS[plan.head]
    if "encoder" in plan.extras:
        inner = [name for name in names if name != "labels"]
        tied = head.replace("self.embed.weight", "self.encoder.embed.weight")
        lines = [f"h = self.encoder({', '.join(inner)})", f"p = {POOLS[plan.kind][plan.pool]}", tied]
        classes = _module("Encoder", made, f"forward(self, {', '.join(inner)})", [*body, "return h"])
        made = ["self.encoder = Encoder()"]
    else:
        lines = [*body, f"p = {POOLS[plan.kind][plan.pool]}", head]
        classes = ""
    if "auxiliary" in plan.extras:
        made.append("self.auxiliary = nn.Linear(16, 5)")
        at = lines.index("# half") if "# half" in lines else 1
        lines.insert(at, f"aux = self.auxiliary({_MEANS[plan.kind]}) if self.training else None")
    forward = [*_unpacked(plan, names), *lines, *_answer(plan)]
    return (
        _HEADER
        + _containers(plan, names)
        + classes
        + _module("Net", [*made, head_made], _signature(plan, names), forward)
    )


def _trunk(plan: Plan) -> tuple[list[str], list[str]]:
    names = {name: name for name in argument_names(plan)}
    _, made, line = SOURCES[plan.source].stems[plan.stem]
    inits, lines = [made], [line.format(**names)]
    pad = "attention_mask == 0" if "attention_mask" in plan.extras else "padding" if "padding" in plan.extras else None
    known: dict[str, Part] = {**BLOCKS[plan.kind], **RARE.get(plan.kind, {})}
    last = ""
    for i, name in enumerate(plan.blocks):
        if i == len(plan.blocks) // 2 and "encoder" not in plan.extras:
            lines.append("# half")
        made, line = known[name]
        last = last if name == "again" else line.replace("{i}", str(i)).replace("{pad}", str(pad))
        inits.append(made.replace("{i}", str(i)))
        lines.append(last)
    return inits, lines


def _signature(plan: Plan, names: list[str]) -> str:
    flag = ", gain=1.0" if "flag" in plan.extras else ""
    if plan.call in ("positional", "keyword"):
        optional = [f"{name}=None" if name == "labels" else name for name in names]
        return f"forward(self, {', '.join(optional)}{flag})"
    return f"forward(self, batch{flag})"


def _unpacked(plan: Plan, names: list[str]) -> list[str]:
    if plan.call == "tuple":
        return [f"({', '.join(names)},) = batch"]
    read = {"dict": "batch[{0!r}]", "dataclass": "batch.{0}", "nested": 'batch["inputs"][{0!r}]'}.get(plan.call)
    return [] if read is None else [f"{name} = {read.format(name)}" for name in names]


def answer_names(plan: Plan) -> list[str]:
    """Return the names of what may come back: the answer first."""
    names = ["y", *(["z"] if plan.head == "two" else []), *(["p"] if "features" in plan.extras else [])]
    return [*names, *(name for extra, name in (("auxiliary", "aux"), ("labels", "loss")) if extra in plan.extras)]


def _answer(plan: Plan) -> list[str]:
    names = answer_names(plan)
    lines = ["y = y * gain"] if "flag" in plan.extras else []
    if "labels" in plan.extras:
        lines.append("loss = (y.flatten(1).mean(1) if y.ndim > 1 else y).sub(labels).pow(2).mean()")
    if plan.answer == "tensor":
        return [*lines, f"return {', '.join(names)}" if len(names) > 1 else "return y"]
    pairs = {
        "tuple": f"({', '.join(names)},)",
        "list": f"[{', '.join(names)}]",
        "dict": "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}",
        "nested": '{"out": (y, {' + ", ".join(f"{name!r}: {name}" for name in names[1:]) + "})}",
    }
    return [*lines, f"return {pairs.get(plan.answer, 'Answer(' + ', '.join(names) + ')')}"]


def _containers(plan: Plan, names: list[str]) -> str:
    made = ""
    if plan.call == "dataclass":
        made += "\n\n@dataclass\nclass Inputs:\n" + "".join(f"    {name}: Any\n" for name in names)
    fields = "".join(f"    {name}: Any\n" for name in answer_names(plan))
    if plan.answer == "dataclass":
        made += f"\n\n@dataclass\nclass Answer:\n{fields}"
    if plan.answer == "named tuple":
        made += f"\n\nclass Answer(NamedTuple):\n{fields}"
    return made


def _module(name: str, made: list[str], signature: str, lines: list[str]) -> str:
    init = "\n".join(["super().__init__()", *filter(None, made)])
    body = "\n".join(line for line in lines if line and line != "# half")
    return (
        f"\n\nclass {name}(nn.Module):\n    def __init__(self):\n{textwrap.indent(init, ' ' * 8)}\n\n"
        f"    def {signature}:\n{textwrap.indent(body, ' ' * 8)}\n"
    )
