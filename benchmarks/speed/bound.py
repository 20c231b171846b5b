"""How close to the bound: sequences, tokens and images against the bare model at its best batch size."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import timm
import torch
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

import muxwrap
from muxwrap.throughput import Configuration, Report, bfloat16_instructions, compare, measure, predict

LENGTH = 128
COUNTS = (2, 5, 10, 20, 40)
MIXTURES = (1, 2, 4, 8, 16)  # sequences that the trunk sees in a call
Progress = Callable[[str], object]
Study = Callable[[argparse.Namespace, Progress], list[dict[str, Any]]]


def text(length: int = LENGTH) -> dict[str, torch.Tensor]:
    """Return a full-length sentence with its mask, as a tokenizer gives it."""
    ids = torch.randint(1000, 30000, (1, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def bert(layers: int = 12, width: int = 768, kind: Any = BertForSequenceClassification) -> torch.nn.Module:
    """Return an untrained BERT; speed does not depend on weights."""
    heads = 12 if width % 12 == 0 else width // 64
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
    return kind(BertConfig(num_hidden_layers=layers, **sizes))


def records(report: Report, study: str, bound: float | None = None, **labels: Any) -> list[dict[str, Any]]:
    """Return the report's cells as records of the results format."""
    cells = report.records(study=study, **labels)
    return [{**cell, "bound": cell["n"] if bound is None else bound} for cell in cells]


def sequence(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """12 layers, d=768, L=128, all full length, defaults; in float32 and, where it is not emulated, in bfloat16 in turn."""
    backbone, example, instructions = bert(), text(), bfloat16_instructions()
    dtypes = (torch.float32, torch.bfloat16) if instructions else (torch.float32,)
    options = {"mixtures": MIXTURES, "rounds": args.rounds, "progress": progress}
    report = measure(backbone, COUNTS, example_input=example, dtype=dtypes, **options)
    labels = {"backbone": "BERT 12x768", "length": LENGTH, "bfloat16_instructions": instructions}
    cells = records(report, "sequence", **labels)
    for cell in cells:
        if cell["n"] > 1:
            progress(f"predict n={cell['n']} in {cell['dtype']}")
            cell["predicted"] = predict(backbone, cell["n"], LENGTH, example_input=example, dtype=cell["dtype"])
    return cells


def strategies(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Every strategy at N=40."""
    backbone, example = bert(), text()
    sites = muxwrap.find_sites(backbone, example)
    configurations = [Configuration("bare", backbone, example)]
    for name in muxwrap.list_strategies("features"):
        model = muxwrap.wrap(backbone, 40, name, sites=sites)
        muxwrap.unwrap(model)
        configurations.append(Configuration(name, model, example))
    report = compare(configurations, rounds=args.rounds, mixtures=(1, 2, 4), progress=progress)
    return records(report, "strategies", backbone="BERT 12x768", length=LENGTH)


def prefix(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Index prefix: L' = L + N tokens."""
    report = measure(bert(), (20, 40), demux="index", example_input=text(), rounds=args.rounds, progress=progress)
    return records(report, "prefix", backbone="BERT 12x768", length=LENGTH)


def tokens(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Token classification with the default demuxer, and with the others."""
    backbone = bert(kind=BertForTokenClassification)
    cells: list[dict[str, Any]] = []
    for demux in ("mlp", "key", "index"):
        report = measure(backbone, (20,), demux=demux, example_input=text(), rounds=args.rounds, progress=progress)
        cells += records(report, f"tokens_{demux}", backbone="BERT 12x768 tagger", length=LENGTH)
    return cells


def smaller(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """Smaller multiplexed models against the large bare one."""
    example = text()
    configurations = [Configuration("bare", bert(), example)]
    for layers, width in ((4, 768), (12, 384)):
        model = muxwrap.wrap(bert(layers, width), 20, example_input=example)
        configurations.append(Configuration(f"{layers}x{width}, n=20", model, example))
    report = compare(configurations, rounds=args.rounds, progress=progress)
    return records(report, "smaller", bound=float(20), backbone="BERT", length=LENGTH)


def vision(args: argparse.Namespace, progress: Progress) -> list[dict[str, Any]]:
    """ResNet-50 and ViT-S/16 at 224, mixed after the stem and at the pixels."""
    cells: list[dict[str, Any]] = []
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for name in ("resnet50", "vit_small_patch16_224"):
        backbone = timm.create_model(name)
        for place, options in (("stem", {}), ("pixels", {"mux_at": "@input", "strategy": "sign"})):
            report = measure(backbone, (8,), example_input=image, rounds=args.rounds, progress=progress, **options)
            cells += records(report, f"vision_{place}", backbone=name)
    return cells
