"""From a plan to a chart: all models trained and scored one after the other, then timed in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from muxwrap._util.progress import progress_bar
from muxwrap.errors import MuxwrapError
from muxwrap.frontiers.candidates import BARE, Candidate, Plan, Served, Skipped
from muxwrap.frontiers.point import Point
from muxwrap.frontiers.records import Records
from muxwrap.frontiers.result import Frontier
from muxwrap.frontiers.timing import timed
from muxwrap.frontiers.workshop import Workshop
from muxwrap.throughput import Cell


@dataclass(frozen=True)
class Form:
    """A candidate as it is, or as a rival such as int8 serves it.

    Args:
        candidate: the model.
        served: what was done to it; None for nothing.
    """

    candidate: Candidate
    served: Served | None

    @property
    def name(self) -> str:
        """What the table calls it."""
        if self.served is None:
            return self.candidate.name
        return self.served.name if self.candidate.kind == BARE else f"{self.candidate.name}, {self.served.name}"

    def point(self, record: dict[str, Any], cell: Cell) -> Point:
        """Put together what was measured."""
        one, mixture = self.candidate, self.candidate.mixture
        served = None if self.served is None else self.served.name
        accuracy, deviation = record["scores"][served or ""]
        return Point(
            name=self.name,
            kind=self.served.kind if self.served is not None and one.kind == BARE else one.kind,
            layers=one.layers,
            at=one.at,
            n=1 if mixture is None else mixture.n,
            strategy=cell.strategy,
            served=served,
            trained=one.train,
            accuracy=accuracy,
            deviation=deviation,
            agreement=record["agreement"],
            speed=cell.ratio_to_first,
            instances_per_second=cell.instances_per_second,
            rows=cell.rows,
            dtype=cell.dtype if served is None else served,
        )


def chart(shop: Workshop, plan: Plan, records: Records, timing: dict[str, Any], progress: bool) -> Frontier:
    """Train, score and time.

    Raises:
        MuxwrapError: a record of another call, or nothing could be trained.
    """
    with progress_bar(len(plan.candidates) + 1, "frontier", shown=progress) as advance:
        found, skipped = _trained(shop, plan, records, advance)
        forms = [
            Form(each, served)
            for each in plan.candidates
            if each.name in found
            for served in (None, *plan.served)
            if ("" if served is None else served.name) in found[each.name]["scores"]
        ]
        cells = timed([_timed(shop, form) for form in forms], timing)
        advance()
    points = [form.point(found[form.candidate.name], cell) for form, cell in zip(forms, cells, strict=True)]
    builders = {form.name: partial(_built, shop, form, records) for form in forms}
    return Frontier(tuple(points), tuple(skipped), shop.facts(), lambda point: builders[point.name]())


def _trained(
    shop: Workshop, plan: Plan, records: Records, advance: Callable[..., None]
) -> tuple[dict[str, dict[str, Any]], list[Skipped]]:
    """Return the record of every candidate by its name, and what was left out."""
    found: dict[str, dict[str, Any]] = {}
    skipped, error = list(plan.skipped), None
    for candidate in plan.candidates:
        record = records.read(candidate.name)
        if record is None:
            try:
                record = _make(shop, plan, candidate, records)
            except MuxwrapError as failed:
                if not candidate.train:
                    raise
                error = failed
                skipped.append(Skipped(candidate.name, str(failed)))
                advance(last=f"{candidate.name}: left out")
                continue
        found[candidate.name] = record
        skipped += [Skipped(*pair) for pair in record["left out"].items()]
        advance(last=f"{candidate.name}: {record['scores'][''][0]:.1%}")
    if error is not None and not any(each.train and each.name in found for each in plan.candidates):
        raise error
    return found, skipped


def _make(shop: Workshop, plan: Plan, candidate: Candidate, records: Records) -> dict[str, Any]:
    """Distil a candidate, score it in all its forms, keep it, and return its record."""
    model, agreement = shop.distilled(candidate, records.resume(candidate.name))
    scores, left_out = {}, {}
    for served in (None, *plan.served):
        try:
            score = shop.score(shop.served(model, None if served is None else served.serve))
        except Exception as error:
            if served is None:
                raise
            left_out[Form(candidate, served).name] = f"{type(error).__name__}: {error}"
            continue
        scores["" if served is None else served.name] = [score.mean, score.deviation]
    record = {"name": candidate.name, "agreement": agreement, "scores": scores, "left out": left_out}
    records.write(candidate.name, record, model.state_dict() if candidate.train else None)
    return record


def _timed(shop: Workshop, form: Form) -> tuple[str, nn.Module, Any]:
    """Return a form's name, the model, and a call of it; speed does not depend on what was learned."""
    model = shop.served(shop.make(form.candidate), None if form.served is None else form.served.serve)
    return form.name, model, shop.call(model, shop.subject.example)


def _built(shop: Workshop, form: Form, records: Records) -> nn.Module:
    weights, model = records.weights(form.candidate.name), shop.make(form.candidate)
    if weights is not None:
        model.load_state_dict(weights)
    return model if form.served is None else shop.served(model, form.served.serve)
