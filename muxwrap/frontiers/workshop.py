"""Making, distilling, scoring and serving the models of a chart."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from muxwrap.evaluation import Evaluation, evaluate
from muxwrap.frontiers.candidates import Candidate
from muxwrap.frontiers.registry import Subject
from muxwrap.multiplex import Multiplex
from muxwrap.site import Sites
from muxwrap.sites import find_sites
from muxwrap.throughput.dtypes import dtype_name, dtype_of, example_in_dtype, in_dtype
from muxwrap.training.distill import distill
from muxwrap.training.pairs import Pair
from muxwrap.training.teacher import fingerprint
from muxwrap.wrapping import wrap

Serve = Callable[[nn.Module], nn.Module]


@dataclass
class Workshop:
    """What all models of a chart share.

    Args:
        subject: the trained model and what it is called with.
        train: batches to distil on.
        held_out: pairs of inputs and labels, by which the best weights are chosen.
        scored: those that accuracy is measured on.
        steps: of a distillation.
        dtype: in which is scored and timed.
        groupings: of a score.
        seed: of everything that is drawn.
        options: of :func:`~muxwrap.training.distill`.
    """

    subject: Subject
    train: Iterable[Any]
    held_out: Sequence[Pair]
    scored: Sequence[Pair]
    steps: int
    dtype: torch.dtype
    groupings: int
    seed: int
    options: dict[str, Any]

    def identity(self) -> dict[str, Any]:
        """Return what has to be the same where a record is read again."""
        return {
            "steps": self.steps,
            "seed": self.seed,
            "groupings": self.groupings,
            "dtype": dtype_name(self.dtype),
            "options": {key: repr(value) for key, value in sorted(self.options.items())},
            "model": fingerprint(self.subject.model),
            "rows": self.facts()["rows"],
        }

    def facts(self) -> dict[str, Any]:
        """Return what all points of the chart have in common."""
        device = next(self.subject.model.parameters()).device
        name = torch.get_device_module(device).get_device_name(device) if device.type != "cpu" else platform.machine()
        return {
            "model": type(self.subject.model).__name__,
            "device": name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "steps": self.steps,
            "seed": self.seed,
            "groupings": self.groupings,
            "class token alone": self.subject.alone,
            "rows": sum(len(pair.labels) for pair in self.scored if pair.labels is not None),
        }

    @cached_property
    def teacher(self) -> nn.Module:
        """The trained model, frozen."""
        return copy.deepcopy(self.subject.model).requires_grad_(False).eval()

    @cached_property
    def sites(self) -> Sites:
        """Where plain models are compared with the teacher: before the head."""
        return find_sites(self.teacher, self.subject.example)

    def make(self, candidate: Candidate) -> nn.Module:
        """Return an untrained candidate, wrapped where it is multiplexed."""
        model = candidate.make(copy.deepcopy(self.subject.model))
        if candidate.mixture is None:
            return model.eval()
        return candidate.mixture.wrap(model, self.subject.example, self.seed).eval()

    def distilled(self, candidate: Candidate, resume: Path | None) -> tuple[nn.Module, float | None]:
        """Return a trained candidate, and how often it answers as the teacher does on the held-out rows."""
        model = self.make(candidate)
        if not candidate.train:
            return model, None
        # A plain model at n = 1 is itself: the same function trains all, in the same steps on the same batches.
        bare = candidate.mixture is None
        student = wrap(model, 1, "identity", "unbind", sites=self.sites, seed=self.seed) if bare else model
        assert isinstance(student, Multiplex)
        found = distill(
            student,
            self.train,
            self.steps,
            teacher=self.teacher,
            held_out=self.held_out,
            seed=self.seed,
            resume=resume,
            progress=False,
            **{"states": 1.0, "every": max(1, self.steps // 5), **self.options},
        )
        return (student.detach() if bare else student).eval(), found.agreement

    def served(self, model: nn.Module, serve: Serve | None) -> nn.Module:
        """Return what is scored and timed of a model: in the dtype of the chart, or what a rival makes of a copy.

        What a rival makes of a multiplexed model's backbone is wrapped as the model was, with the same weights.
        """
        if serve is None:
            return in_dtype(model, self.dtype).eval()
        copied = copy.deepcopy(model)
        if not isinstance(copied, Multiplex):
            return serve(copied).eval()
        made = serve(copied.detach())
        return Multiplex(made, copied.n, copied.strategy, copied.demuxer, sites=copied.sites, shuffle=False).eval()

    def score(self, model: nn.Module) -> Evaluation:
        """Return the accuracy of what is served."""
        return evaluate(
            model,
            [(self.call(model, pair.inputs), pair.labels) for pair in self.scored],
            groupings=self.groupings,
            seed=self.seed,
            per_index=False,
            progress=False,
        )

    def call(self, model: nn.Module, inputs: Any) -> Any:
        """Return inputs in the dtype of a model's first weights."""
        return example_in_dtype(inputs, dtype_of(model))
