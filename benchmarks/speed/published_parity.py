"""How close published checkpoints, read by muxwrap, come to what the authors' code answered with them.

    python -m benchmarks.speed.published_parity

The records (random weights, one for every class, strategy and demuxer that was published) are those of the tests:
tests/published/published_records.safetensors. Writes docs/results/published.json.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.results import ROOT, write
from muxwrap import published

FILE = ROOT / "tests" / "published" / "published_records.safetensors"
with safe_open(FILE, "pt") as file:
    RECORDS: dict[str, Any] = json.loads(file.metadata()["records"])
TENSORS = load_file(FILE)


class Record:
    """One record: the config, the weights under their published names, the input and the answers."""

    def __init__(self, name: str) -> None:
        record = RECORDS[name]
        own = {key: TENSORS[number] for key, number in record["tensors"].items()}
        self.config = {**json.loads(record["config"]), "architectures": [record["class"]]}
        self.state = {key.removeprefix("state."): value for key, value in own.items() if key.startswith("state.")}
        family = "roberta" if "Roberta" in record["class"] else "bert"
        table = torch.full((self.config["vocab_size"], self.config["hidden_size"]), torch.nan)  # no other row is read
        table[own["word_embeddings.used_ids"]] = own["word_embeddings.used_rows"]
        self.state[f"{family}.embeddings.word_embeddings.weight"] = table
        self.batch = {"input_ids": own["input_ids"], "attention_mask": own["attention_mask"]}
        self.logits, self.demuxed = own["expected.logits"], own["expected.demuxed"]

    def write(self, folder: Path, **weights: Tensor) -> Path:
        """Write a folder in the hub's layout."""
        (folder / "config.json").write_text(json.dumps(self.config))
        state = {name: value.clone() for name, value in {**self.state, **weights}.items()}  # some share memory
        save_file(state, folder / "model.safetensors")
        return folder


def difference(name: str) -> float:
    """Return the largest difference of a logit."""
    record = Record(name)
    with tempfile.TemporaryDirectory() as folder:
        model = published.load(record.write(Path(folder)))
    with torch.no_grad():
        return float((model(**record.batch).logits - record.logits).abs().max())


def main() -> None:
    """Compare every record."""
    transformers.logging.set_verbosity_error()
    cells = []
    for name in RECORDS:
        source, backbone, strategy, demux, task = name.split("-")
        cells.append(
            {
                "backbone": backbone,
                "published": source,
                "task": task,
                "strategy": strategy,
                "demux": demux,
                "metric": "largest difference of a logit",
                "largest_logit": float(Record(name).logits.abs().max()),
                "max": difference(name),
            }
        )
        print(name, cells[-1]["max"], flush=True)
    write(ROOT / "docs" / "results" / "published.json", "published", cells)


if __name__ == "__main__":
    main()
