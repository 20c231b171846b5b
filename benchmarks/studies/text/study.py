"""Multiplexed text models against bare ones, one cell at a time: tasks x configurations x n x seeds.

    python -m benchmarks.studies.text.study --data FOLDER --only sst2 snli --n 2 10 40 --warm-up 0 2000

FOLDER holds one folder per task (see data.py) and vocab/bert-base-uncased-vocab.txt.gz. A cell that is already in the
results is not measured again, so the command can be interrupted and repeated. report.py draws the results.

Configurations: B1, the bare model from scratch; B2, the bare model after a warm-up with n = 1; rival, a plain model with
about 1/n of B1's compute; block, one as wide as an instance's slot of a mixture, 1/n of the width; apart, slots with a
trunk that starts apart; and any strategy's name. All are trained for the same number of epochs.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from benchmarks.results import device_name, read_records
from benchmarks.studies.common.cells import Job, Progress, Record, Study
from benchmarks.studies.common.command_line import set_threads
from benchmarks.studies.common.models import APART, device_of, strategy_fields
from benchmarks.studies.common.recipe import Recipe
from benchmarks.studies.text.cells import Cell, cells, group, settings
from benchmarks.studies.text.data import load, wikitext
from benchmarks.studies.text.models import Sizes, make, operations
from benchmarks.studies.text.options import command, parse
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.teachers import answers
from benchmarks.studies.text.tokenizer import VOCABULARY, Data, WordPieces
from benchmarks.studies.text.training import Trained, evaluate, fit, recipe, retrieve


def read(args: argparse.Namespace, name: str) -> Data:
    """Return a task's data as ids."""
    task = load(name, args.data, args.limit)
    encoder = WordPieces(args.data / VOCABULARY, task.train.texts, args.vocab or None, task.tagging)
    splits = [encoder.split(split, task.classes) for split in (task.train, task.select, task.report)]
    warm_up = encoder.unlabelled(wikitext(args.data)) if args.warm_up_text == "wikitext-2" else splits[0]
    return Data(task, encoder.size, *splits, warm_up)


def measure(cell: Cell, seed: int, data: Data, args: argparse.Namespace, progress: Progress) -> Record:
    """Train and score one cell; of several learning rates the best on the selection split counts."""
    start = time.perf_counter()
    sizes = Sizes(args.layers, args.dim, args.heads, data.vocabulary)
    how = recipe(args.epochs, args.mixtures, seed, crosstalk=args.crosstalk if cell.configuration == APART else 1)
    model = make(data.task, cell.configuration, cell.n, sizes, seed).to(args.device)
    warmed: dict[str, Any] = {}
    if cell.warm_up:
        progress(f"{cell.warm_up} steps of warm-up")
        warmed = retrieve(model, data.warm_up, data.select, how, cell.warm_up, args.warm_up_lr)
    tried = try_rates(model, data, how, rates(cell, args), taught(data, sizes, how, args, progress), progress)
    lr, best = max(tried.items(), key=lambda each: each[1].selected)
    model.load_state_dict(best.state)
    return {
        "backbone": str(sizes._replace(dim=model.config.hidden_size)),
        "dataset": cell.task,
        "split": data.task.reported,
        "configuration": cell.configuration,
        "n": cell.n,
        "warm_up": cell.warm_up,
        "seed": seed,
        **strategy_fields(model),
        **reported(model, data, how),
        "seeds": 1,
        "selected": best.selected,
        "best_epoch": best.epoch,
        "lr": lr,
        "tried": {f"{each:g}": round(trained.selected, 2) for each, trained in tried.items()},
        "train_rows": len(data.train.ids),
        "device": device_name(args.device),
        **settings(args, cell),
        **warmed,
        "instances_per_second": None,
        "ratio_to_bare": None,
        "operations_ratio": operations_ratio(model, data, sizes),
        "seconds": round(time.perf_counter() - start, 1),
    }


def reported(model: nn.Module, data: Data, how: Recipe) -> dict[str, Any]:
    """Return the fields of the score on the reported split."""
    score = scorer(data.task, data.task.report, data.report)
    return {"metric": score.name, **evaluate(model, data.report, score, how)}


def operations_ratio(model: nn.Module, data: Data, sizes: Sizes) -> float:
    """Return the bare model's operations over the model's, at the median length of the reported split."""
    length = int(data.report.lengths.median())
    bare = make(data.task, "B1", 1, sizes, 0).to(device_of(model))
    return operations(bare, length) / operations(model, length)


def rates(cell: Cell, args: argparse.Namespace) -> list[float]:
    """Return the learning rates to try: the one that an earlier seed chose, or all."""
    chosen = [record["lr"] for record in read_records(args.results) if record["group"] == group(args, cell)]
    return chosen[:1] or args.lr


def taught(data: Data, sizes: Sizes, how: Recipe, args: argparse.Namespace, progress: Progress) -> torch.Tensor | None:
    """Return the answers of the teachers; None where no teacher is asked for."""
    return answers(data, sizes, how, args.teachers, args.cache, args.device, progress) if args.teachers else None


def try_rates(
    model: nn.Module, data: Data, how: Recipe, rates: list[float], taught: torch.Tensor | None, progress: Progress
) -> dict[float, Trained]:
    """Train with every learning rate, each from the state that the model has now."""
    began = {key: value.clone() for key, value in model.state_dict().items()}
    score = scorer(data.task, data.task.select, data.select)
    tried = {}
    for lr in rates:
        model.load_state_dict(began)
        show = partial(_show_rate, progress, lr)
        tried[lr] = fit(model, data.train, data.select, score, replace(how, lr=lr), show, taught)
    return tried


def _show_rate(progress: Progress, lr: float, line: str) -> None:
    progress(f"lr {lr:g}, {line}")


def summary(record: Record) -> str:
    """Return what is printed of a record."""
    spread = f" ± {record['std']:.1f}" if record["std"] is not None else ""
    warmed = f", retrieval {record['retrieval']:.1f} %" if "retrieval" in record else ""
    return (
        f"{record['metric']} {record['mean']:.1f}{spread} % (selection {record['selected']:.1f}, "
        f"lr {record['lr']:g}{warmed}), operations 1/{record['operations_ratio']:.1f}"
    )


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, seed by seed, so that a first table is there early."""
    data = cache(partial(read, args))

    def job(cell: Cell, seed: int) -> Job:
        def measured(progress: Progress) -> Record:
            return {"group": group(args, cell), **measure(cell, seed, data(cell.task), args, progress)}

        return Job(f"{group(args, cell)} seed={seed}", f"{cell} seed={seed}", measured)

    jobs = [job(cell, seed) for seed in args.seeds for cell in cells(args)]
    Study(args.results, "text", command(args), summary).run(jobs)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv, __doc__)
    set_threads(args)
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    run(args)


if __name__ == "__main__":
    main()
