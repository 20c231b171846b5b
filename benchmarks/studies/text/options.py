"""The study's command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.studies.common.command_line import joined, parser
from benchmarks.studies.common.models import APART, SLOW_CROSSTALK
from benchmarks.studies.text.cells import WARM_UP_LR, cells
from benchmarks.studies.text.data import TASKS
from benchmarks.studies.text.models import BARE, NARROW

MULTIPLEXED = (APART, "slots", "hadamard", "orthogonal")
UNTAUGHT = {"wnut17", "btc"}  # teachers answer with one class per text


def parse(argv: list[str] | None, doc: str | None) -> argparse.Namespace:
    """Read the command line, or stop with what is wrong in it."""
    made = parser(doc, data="one folder per task, and vocab", results="text.json", device=True)
    _add_cells(made)
    _add_settings(made)
    args = made.parse_args(argv)
    if args.teachers and (args.limit or set(args.configurations) & set(BARE) or UNTAUGHT & set(args.only)):
        made.error(
            "--teachers: bare models, of whole sets and one class per text; leave out --limit, B1, B2, wnut17 and btc"
        )
    if not any(True for _ in cells(args)):
        made.error("nothing to measure: B2 needs --warm-up STEPS, and all but B1 and B2 an n above 1")
    return args


def _add_cells(made: argparse.ArgumentParser) -> None:
    tasks = ["sst2", "snli", "wnut17"]
    made.add_argument("--only", nargs="+", choices=TASKS, default=tasks, metavar="TASK", help=f"of {joined([*TASKS])}")
    names = [*BARE, *NARROW, *MULTIPLEXED]
    made.add_argument(
        "--configurations", nargs="+", default=names, metavar="NAME", help="B1, B2, rival, block, apart, or a strategy"
    )
    made.add_argument("--n", type=int, nargs="+", default=[2, 5, 10, 20, 40], help="instances per mixture")
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="every cell is trained with each")
    made.add_argument("--warm-up", type=int, nargs="+", default=[0], help="steps; several are separate cells")
    made.add_argument("--warm-up-text", choices=("task", "wikitext-2"), default="task", help="texts of the warm-up")
    made.add_argument("--warm-up-lr", type=float, default=WARM_UP_LR, help="learning rate of the warm-up")


def _add_settings(made: argparse.ArgumentParser) -> None:
    made.add_argument("--lr", type=float, nargs="+", default=[1e-3], help="several: the best on the selection split")
    made.add_argument("--epochs", type=int, default=3, help="for every configuration")
    made.add_argument("--limit", type=int, help="training rows at most; the other splits stay whole")
    made.add_argument("--layers", type=int, default=3, help="of the bare model")
    made.add_argument("--dim", type=int, default=256, help="features of the bare model")
    made.add_argument("--heads", type=int, default=16, help="more than instances, or the instances share patterns")
    made.add_argument("--vocab", type=int, default=8000, help="most frequent word pieces that are kept; 0 keeps all")
    made.add_argument("--mixtures", type=int, default=32, help="mixtures per step, but at least 32 rows")
    made.add_argument(
        "--crosstalk", type=float, default=SLOW_CROSSTALK, help="rate at which apart learns it; 1 is the whole rate"
    )
    made.add_argument("--teachers", type=int, nargs="+", default=[], help="seeds of bare models that teach the others")
    made.add_argument("--cache", type=Path, default=Path("runs/text"), help="folder for the answers of teachers")
    made.add_argument("--tf32", action="store_true", help="products in TensorFloat-32, on an accelerator")


def command(args: argparse.Namespace) -> str:
    """Return the command without the paths of one machine."""
    names = ["only", "configurations", "n", "seeds", "warm_up", "lr", "teachers", "epochs", "layers", "dim", "heads"]
    names += ["vocab", "limit", "mixtures", "warm_up_text", "warm_up_lr", "crosstalk"]
    options = []
    for name in names:
        value = getattr(args, name)
        if value not in (None, []):
            shown = joined(value) if isinstance(value, list) else str(value)
            options.append(f"--{name.replace('_', '-')} {shown}")
    options += ["--tf32"] * args.tf32
    return " ".join(["python -m benchmarks.studies.text.study --data FOLDER", *options])
