"""A random model as data: drawn from a seed, and made smaller part by part."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.fuzz.parts import BLOCKS, HEADS, MIXED_AT, POOLS, RARE, SEPARATED_AT, SOURCES

CALLS = ("positional", "keyword", "dict", "tuple", "dataclass", "nested")
ANSWERS = ("tensor", "tuple", "list", "dict", "dataclass", "named tuple", "nested")
EXTRAS = ("labels", "auxiliary", "encoder", "features", "flag")
MASKS = ("attention_mask", "padding")
STRATEGIES = (None, None, None, "hadamard", "slots", "orthogonal", "sign")


@dataclass(frozen=True)
class Plan:
    """A model and how it is called and wrapped.

    Args:
        source: what comes in, of :data:`~benchmarks.fuzz.parts.SOURCES`.
        stem: of the source's stems.
        blocks: the trunk, of the blocks that read what the stem makes.
        pool: what the head reads.
        head: of :data:`~benchmarks.fuzz.parts.HEADS`.
        call: how arguments are passed.
        answer: how answers come back.
        extras: ``"labels"`` (a loss computed inside), ``"auxiliary"`` (a head in training only), ``"encoder"`` (a base model in
            a model with a head), ``"features"`` (what the head reads comes back, too), ``"flag"`` (an argument that is no
            tensor), or a mask.
        strategy: φ for n > 1; None is the default.
        example_rows: in the example that wrap gets.
        named: whether wrap is told the sites, as a user would name them.
        seed: of weights and data.
    """

    source: str
    stem: str
    blocks: tuple[str, ...]
    pool: str
    head: str
    call: str = "positional"
    answer: str = "tensor"
    extras: tuple[str, ...] = ()
    strategy: str | None = None
    example_rows: int = 2
    named: bool = False
    seed: int = 0

    @property
    def kind(self) -> str:
        """What the stem makes and the blocks read."""
        return SOURCES[self.source].stems[self.stem][0]

    @property
    def sites(self) -> dict[str, list[str]]:
        """Return what wrap is told of the sites."""
        if not self.named:
            return {}
        inside = "encoder." if "encoder" in self.extras else ""
        mux = [inside + name for name in MIXED_AT.get(self.stem, ("stem",))]
        return {"mux_at": mux, "demux_at": list(SEPARATED_AT[self.head])}

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def draw(seed: int) -> Plan:
    """Return the plan of a seed."""
    rng = random.Random(seed)
    source = rng.choice(list(SOURCES))
    stem = rng.choice(list(SOURCES[source].stems))
    kind = SOURCES[source].stems[stem][0]
    blocks = rng.choices(list(BLOCKS[kind]), k=rng.randint(1, 5))
    if kind in RARE and rng.random() < 0.06:
        blocks.insert(rng.randint(0, len(blocks)), rng.choice(list(RARE[kind])))
    extras = [extra for extra in EXTRAS if rng.random() < 0.15]
    if kind == "sequence" and source in ("sequence", "tokens") and rng.random() < 0.3:
        extras.append(rng.choice(MASKS))
    head = rng.choice([head for head in HEADS if head != "tied" or source == "tokens"])
    return Plan(
        source,
        stem,
        tuple(blocks),
        rng.choice(list(POOLS[kind])),
        head,
        rng.choice(CALLS),
        rng.choice(ANSWERS),
        tuple(extras),
        rng.choice(STRATEGIES),
        rng.randint(1, 4),
        rng.random() < 0.3 and head in SEPARATED_AT and stem != "functional",
        seed,
    )


def smaller(plan: Plan) -> Iterator[Plan]:
    """Yield plans with one part less, or a plainer one."""
    for at in range(len(plan.blocks)):
        yield replace(plan, blocks=plan.blocks[:at] + plan.blocks[at + 1 :])
    for extra in plan.extras:
        yield replace(plan, extras=tuple(other for other in plan.extras if other != extra))
    plain: dict[str, Any] = {"call": "positional", "answer": "tensor", "head": "linear", "strategy": None}
    plain["pool"] = next(iter(POOLS[plan.kind]))
    plain |= {"example_rows": 2, "named": False}
    for name, value in plain.items():
        if getattr(plan, name) != value:
            yield replace(plan, **{name: value})
    stems = SOURCES[plan.source].stems
    first = next(iter(stems))
    if plan.stem != first and stems[first][0] == plan.kind:
        yield replace(plan, stem=first)
    for at, name in enumerate(plan.blocks):
        simple = "convolution" if plan.kind in ("signal", "map") else "linear"
        if name != simple:
            yield replace(plan, blocks=(*plan.blocks[:at], simple, *plan.blocks[at + 1 :]))
