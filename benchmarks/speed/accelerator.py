"""Throughput on an accelerator, in bfloat16: sequences, images, training, compiled; ratios inside one run.

    python -m benchmarks.speed.accelerator [--only NAME ...] [--rounds 3]

Writes docs/results/throughput_accelerator.json; cells of studies that are not run are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from tqdm import tqdm

import muxwrap
from benchmarks.results import device_name, merge_records
from benchmarks.speed.bound import LENGTH, Progress, bert, records, text
from muxwrap.throughput import Configuration, Report, compare, measure

DTYPE = torch.bfloat16
SEQUENCES = (8, 32, 128)  # that the trunk sees in a call; where trying them takes long, the smaller ones are left out


def sequence(device: torch.device, rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """Return 12 layers, d=768, L=128, all full length, defaults."""
    return _text(bert(), (2, 5, 10, 20, 40), device, "sequence", mixtures=SEQUENCES, rounds=rounds, progress=progress)


def training(device: torch.device, rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """Return the same, forward and backward."""
    options = {"mixtures": SEQUENCES[1:], "rounds": rounds, "progress": progress}
    return _text(bert(), (2, 10, 40), device, "training", train=True, **options)


def compiled(device: torch.device, rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """Return the same with ``torch.compile``, against the compiled bare model."""
    example = _moved(text(), device)
    configurations = []
    for n in (1, 10, 40):
        model = bert().to(device, DTYPE).eval()
        model = model if n == 1 else muxwrap.wrap(model, n, example_input=example).eval()
        name = "bare" if n == 1 else f"n={n}"
        configurations.append(Configuration(name, model, example, torch.compile(model)))
    report = compare(configurations, mixtures=SEQUENCES[2:], rounds=rounds, progress=progress)
    return _records(report, "compiled", device, backbone="BERT 12x768", length=LENGTH)


def vision(device: torch.device, rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """Return a residual network and a vision transformer at 224 pixels, defaults."""
    cells: list[dict[str, Any]] = []
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(device, DTYPE)
    for name in ("resnet50", "vit_base_patch16_224"):
        backbone = timm.create_model(name).to(device, DTYPE)
        report = measure(backbone, (2, 4, 8), example_input=image, mixtures=(16, 64), rounds=rounds, progress=progress)
        cells += _records(report, "vision", device, backbone=name)
    return cells


STUDIES = {study.__name__: study for study in (sequence, compiled, training, vision)}


def _text(backbone: nn.Module, n: tuple[int, ...], device: torch.device, study: str, **options: Any) -> Any:
    example = _moved(text(), device)
    report = measure(backbone.to(device, DTYPE), n, example_input=example, **options)
    return _records(report, study, device, backbone="BERT 12x768", length=LENGTH)


def _moved(example: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {key: value.to(device) for key, value in example.items()}


def _records(report: Report, study: str, device: torch.device, **labels: Any) -> list[dict[str, Any]]:
    return records(report, study, device=device_name(device), **labels)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path("docs/results/throughput_accelerator.json"))
    args = parser.parse_args(argv)
    device = torch.accelerator.current_accelerator()
    if device is None:
        parser.error("there is no accelerator; benchmarks.speed.throughput measures on the processor")
    torch.manual_seed(0)
    for name in (bar := tqdm(args.only, disable=None)):
        cells = STUDIES[name](device, args.rounds, bar.set_postfix_str)
        command = "python -m benchmarks.speed.accelerator"  # which makes all of the file
        merge_records(args.results, "throughput on an accelerator", cells, key="study", command=command)
        for cell in cells:
            speed = f"{cell['rows']:6} rows {cell['instances_per_second']:9,.0f}/s {cell['ratio_to_bare']:6.2f}x"
            tqdm.write(f"{cell['study']:10} {cell['backbone']:22} {cell['name']:6} {speed}")


if __name__ == "__main__":
    main()
