"""Multiplexed text models against bare ones, one cell at a time: tasks x configurations x n x seeds.

    python -m benchmarks.studies.text.study --data FOLDER --only sst2 snli --n 2 10 40 --warm-up 0 2000

FOLDER holds a folder a task (see data.py) and vocab/bert-base-uncased-vocab.txt.gz. A cell that is already in the
results is not measured again, so the command can be interrupted and repeated. report.py draws what was found.

Configurations: B1, the bare model from scratch; B2, the bare model after a warm-up with n = 1; rival, a plain model with
about 1/n of B1's compute; block, one as wide as an instance's part of a mixture, 1/n of the width; apart, slots with a
trunk that starts apart; and any strategy's name. Everything is trained for as many epochs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from benchmarks.results import device_name, merge_records, read_records
from benchmarks.studies.text.data import TASKS, load, wikitext
from benchmarks.studies.text.models import APART, BARE, NARROW, Sizes, make, operations
from benchmarks.studies.text.pieces import Data, Pieces
from benchmarks.studies.text.scores import scorer
from benchmarks.studies.text.teachers import answers
from benchmarks.studies.text.training import Recipe, Trained, evaluate, fit, retrieve

MULTIPLEXED = (APART, "slots", "hadamard", "orthogonal")
WARM_UP_LR = 1e-3  # too high for 12 layers of 768
VOCABULARY = Path("vocab") / "bert-base-uncased-vocab.txt.gz"


class Cell(NamedTuple):
    task: str
    configuration: str
    n: int
    warm_up: int

    def __str__(self) -> str:
        warmed = f" warm-up={self.warm_up}" if self.warm_up else ""
        return f"{self.task} {self.configuration} n={self.n}{warmed}"


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """Yield what is to be measured: bare models once, the others for every n and multiplexed ones for every warm-up."""
    for task in args.only:
        for name in args.configurations:
            if name == "B1":
                yield Cell(task, name, 1, 0)
            elif name == "B2":
                yield from (Cell(task, name, 1, steps) for steps in args.warm_up if steps)
            else:
                warm_ups = [0] if name in NARROW else args.warm_up
                yield from (Cell(task, name, n, steps) for n in args.n if n > 1 for steps in warm_ups)


def read(name: str, args: argparse.Namespace) -> Data:
    task = load(name, args.data, args.limit)
    pieces = Pieces(args.data / VOCABULARY, task.train.texts, args.vocab or None, task.tagging)
    splits = [pieces.split(split, task.classes) for split in (task.train, task.select, task.report)]
    plain = pieces.plain(wikitext(args.data)) if args.warm_up_text == "wikitext-2" else splits[0]
    return Data(task, pieces.size, *splits, plain)


def settings(args: argparse.Namespace, cell: Cell) -> dict[str, Any]:
    """Return what a cell's result depends on beside the cell itself."""
    names = ["layers", "dim", "heads", "vocab", "epochs", "limit"] + ["warm_up_text"] * bool(cell.warm_up)
    names += ["mixtures"] * (cell.configuration not in (*BARE, *NARROW))
    names += ["crosstalk"] * (cell.configuration == APART)
    names += ["warm_up_lr"] * bool(cell.warm_up and args.warm_up_lr != WARM_UP_LR) + ["tf32"] * args.tf32
    names += ["teachers"] * bool(args.teachers)
    return {name: getattr(args, name) for name in names}


def measure(
    cell: Cell, seed: int, rates: list[float], data: Data, args: argparse.Namespace, tell: Callable[[str], object]
) -> dict[str, Any]:
    """Train and score one cell; of several learning rates the one is kept that is best on the selection split."""
    start = time.perf_counter()
    sizes = Sizes(args.layers, args.dim, args.heads, data.pieces)
    crosstalk = args.crosstalk if cell.configuration == APART else 1
    recipe = Recipe(args.epochs, args.mixtures, seed, args.device, crosstalk)
    model = make(data.task, cell.configuration, cell.n, sizes, seed).to(args.device)
    warmed: dict[str, Any] = {}
    if cell.warm_up:
        tell(f"{cell.warm_up} steps of warm-up")
        warmed = retrieve(model, data.plain, data.select, recipe, cell.warm_up, args.warm_up_lr)
    taught = answers(data, sizes, recipe, args.teachers, args.kept, tell) if args.teachers else None
    began = {key: value.clone() for key, value in model.state_dict().items()}
    tried: dict[float, Trained] = {}
    for lr in rates:
        model.load_state_dict(began)
        select = scorer(data.task, data.task.select, data.select)
        tried[lr] = fit(model, data.train, data.select, select, recipe, lr, tell, taught)
    lr, best = max(tried.items(), key=lambda each: each[1].selected)
    model.load_state_dict(best.state)
    score = scorer(data.task, data.task.report, data.report)
    found = evaluate(model, data.report, score, recipe)
    length = int(data.report.lengths.median())
    bare = operations(make(data.task, "B1", 1, sizes, 0).to(args.device), length)
    multiplexed = hasattr(model, "n")
    return {
        "backbone": str(sizes._replace(dim=model.config.hidden_size)),
        "dataset": cell.task,
        "split": data.task.reported,
        "configuration": cell.configuration,
        "n": cell.n,
        "warm_up": cell.warm_up,
        "seed": seed,
        "strategy": model.strategy.name if multiplexed else None,
        "demux": model.demuxer.name if multiplexed else None,
        "metric": score.name,
        **found,
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
        "operations_ratio": bare / operations(model, length),
        "seconds": round(time.perf_counter() - start, 1),
    }


def run(args: argparse.Namespace) -> None:
    """Measure what is missing, seed by seed, so that a first table is there early."""
    data: dict[str, Data] = {}
    wanted = [(seed, cell) for seed in args.seeds for cell in cells(args)]
    for seed, cell in (bar := tqdm(wanted, unit="cell")):
        # The learning rates are part of what was done where they are chosen, that is for the first seed.
        made = " ".join(f"{key}={value}" for key, value in settings(args, cell).items())
        group = f"{cell} | {made} lr={','.join(f'{lr:g}' for lr in args.lr)}"
        held = [record for record in read_records(args.results) if record["group"] == group]
        if any(record["seed"] == seed for record in held):
            continue
        bar.set_description(f"{cell} seed={seed}")
        if cell.task not in data:
            data[cell.task] = read(cell.task, args)
        rates = [held[0]["lr"]] if held else args.lr
        record = measure(cell, seed, rates, data[cell.task], args, bar.set_postfix_str)
        key = {"cell": f"{group} seed={seed}", "group": group}
        merge_records(args.results, "text", [{**key, **record}], key="cell", command=command(args))
        spread = f" ± {record['std']:.1f}" if record["std"] is not None else ""
        warmed = f", retrieval {record['retrieval']:.1f} %" if "retrieval" in record else ""
        tqdm.write(
            f"{cell} seed={seed}: {record['metric']} {record['mean']:.1f}{spread} % (selection {record['selected']:.1f}, "
            f"lr {record['lr']:g}{warmed}), operations 1/{record['operations_ratio']:.1f}, {record['seconds']:.0f} s"
        )


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    said = [f"--only {' '.join(args.only)}", f"--configurations {' '.join(args.configurations)}"]
    many = {"n": args.n, "seeds": args.seeds, "warm-up": args.warm_up, "lr": args.lr, "teachers": args.teachers}
    said += [f"--{key} {' '.join(map(str, values))}" for key, values in many.items() if values]
    one = {"epochs": args.epochs, "layers": args.layers, "dim": args.dim, "heads": args.heads, "vocab": args.vocab}
    one |= {
        "limit": args.limit,
        "mixtures": args.mixtures,
        "warm-up-text": args.warm_up_text,
        "warm-up-lr": args.warm_up_lr,
        "crosstalk": args.crosstalk,
    }
    said += [f"--{key} {value}" for key, value in one.items() if value is not None]
    said += ["--tf32"] * args.tf32
    return " ".join(["python -m benchmarks.studies.text.study --data FOLDER", *said])


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder a task, and vocab")
    parser.add_argument("--only", nargs="+", choices=TASKS, default=["sst2", "snli", "wnut17"], metavar="TASK")
    names = [*BARE, *NARROW, *MULTIPLEXED]
    parser.add_argument(
        "--configurations", nargs="+", default=names, help="B1, B2, rival, block, apart, or a strategy's name"
    )
    parser.add_argument("--n", type=int, nargs="+", default=[2, 5, 10, 20, 40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--warm-up", type=int, nargs="+", default=[0], help="steps; several are separate cells")
    parser.add_argument("--warm-up-text", choices=("task", "wikitext-2"), default="task")
    parser.add_argument("--warm-up-lr", type=float, default=WARM_UP_LR)
    parser.add_argument("--lr", type=float, nargs="+", default=[1e-3], help="several: the best on the selection split")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit", type=int, help="training rows at most; the other splits stay whole")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--heads", type=int, default=16, help="more than instances, or the instances share patterns")
    parser.add_argument("--vocab", type=int, default=8000, help="most frequent pieces that are kept; 0 keeps all")
    parser.add_argument("--mixtures", type=int, default=32, help="of a step, but at least 32 rows")
    parser.add_argument("--crosstalk", type=float, default=0.1, help="at what rate apart learns it; 1 is the whole")
    parser.add_argument(
        "--teachers", type=int, nargs="+", default=[], help="seeds of bare models that teach the others"
    )
    parser.add_argument("--kept", type=Path, default=Path("runs/text"), help="folder for what teachers answer")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--tf32", action="store_true", help="products in TensorFloat-32, on an accelerator")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--results", type=Path, default=Path("docs/results/text.json"))
    args = parser.parse_args(argv)
    if args.teachers and (args.limit or set(args.configurations) & set(BARE) or {"wnut17", "btc"} & set(args.only)):
        parser.error(
            "--teachers: bare models, of whole sets and one class a text; leave out --limit, B1, B2, wnut17 and btc"
        )
    if not any(True for _ in cells(args)):
        parser.error("nothing to measure: B2 needs --warm-up STEPS, and all but B1 and B2 an n above 1")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_float32_matmul_precision("high" if args.tf32 else "highest")
    run(args)


if __name__ == "__main__":
    main()
