"""The ablations: a study end to end on made-up text, and its tables and pictures from made-up records."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

for needed in ("tokenizers", "transformers", "timm", "torchvision", "tqdm"):  # the last three for the results' header
    pytest.importorskip(needed)

WORDS = ["good", "bad", "dull", "fine", "film", "plot", "cast", "and", "or", "the"]
TINY = {"steps": 4, "limit": 50, "mixtures": 2, "words": 12, "task_mixtures": 4, "task_pieces": 20, "epochs": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that the ablations read, a few hundred words in all."""
    files = {
        "vocab/bert-base-uncased-vocab.txt": "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]) + "\n",
        "wikitext-2/valid.txt": " ".join(WORDS[k * k % 7] for k in range(40 * 32)),
        "sst2/train.tsv": "sentence\tlabel\n" + "".join(f"the {WORDS[k % 2]} film\t{k % 2}\n" for k in range(60)),
        "sst2/dev.tsv": "sentence\tlabel\n" + "".join(f"{WORDS[k % 2]} film\t{k % 2}\n" for k in range(9)),
        "sst2/stsa.binary.test": "".join(f"{k % 2} {WORDS[k % 2]} cast\n" for k in range(13)),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with gzip.open(tmp_path / f"{name}.gz", "wt") as file:
            file.write(text)
    made = io.StringIO(newline="")
    csv.writer(made).writerow([" ".join(WORDS[k * k % 7] for k in range(90 * 32))])
    with zipfile.ZipFile(tmp_path / "wikitext-2" / "wikitext-2-train-articles.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.train.tokens", made.getvalue())
    return tmp_path


def ablate(folder: Path, *arguments: str, **settings: Any) -> list[dict[str, Any]]:
    from benchmarks.studies.ablations import ablate

    results = folder / "ablations.json"
    given = [each for k, v in {**TINY, **settings}.items() for each in (f"--{k.replace('_', '-')}", str(v))]
    ablate.main(["--data", str(folder), "--results", str(results), "--threads", "1", *given, *arguments])
    return json.loads(results.read_text())["records"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Studies of two cells, that of the base in both of them, small enough for a test."""
    from dataclasses import replace

    from benchmarks.studies.ablations import studies

    base = studies.Cell(n=2, layers=1, width=16, heads=2)
    deep = replace(base, layers=2, mixed_after=1, strategy="hadamard", scale="mean", learnable=True, demux="key")
    made = {
        "one": studies.Study("One", "strategy", ("retrieval", "task"), {"base": base, "deep": deep}),
        "two": studies.Study("Two", "n", ("converge", "retrieval"), {"2 slots": base, "3 slots": replace(base, n=3)}),
        "three": studies.Study("Three", "steps", ("task",), {"2 slots": replace(base, warm_up=2, retrieval="shared")}),
    }
    monkeypatch.setattr(studies, "STUDIES", made)
    return made


def test_cells_are_measured_once(folder: Path, small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    records = ablate(folder, "--seeds", "0", "1", "--lr", "0.02")
    cells = [record["cell"] for record in records]
    assert len(cells) == len(set(cells)) == 2 * (3 + 2 + 3)  # retrieval of three cells, converge of two, task of three
    first = (folder / "ablations.json").read_text()
    capsys.readouterr()
    ablate(folder, "--seeds", "0", "1", "--lr", "0.02")
    assert (folder / "ablations.json").read_text() == first and capsys.readouterr().out == ""
    by_measure = {m: [r for r in records if r["measure"] == m] for m in ("retrieval", "converge", "task")}
    assert {r["scored"] for r in by_measure["retrieval"]} == {40 * 32}
    assert {(r["scored"], r["groupings"]) for r in by_measure["task"]} == {(13, 5)}
    assert [r["mean"] for r in by_measure["converge"]] != [None] * 4
    for r in by_measure["converge"]:
        assert (r["mean"] is None) == (r["curve"][-1][1] < 90) and (r["mean"] or 50) == r["curve"][-1][0]
    warmed = [r for r in by_measure["task"] if r["warm_up"]]
    assert all(("retrieval_after_warm_up" in r) == bool(r["warm_up"]) for r in by_measure["task"]) and len(warmed) == 2
    with pytest.raises(SystemExit, match="other settings"):
        ablate(folder, "--lr", "0.02", steps=5)


def test_only_what_was_asked_for(folder: Path, small: Any) -> None:
    records = ablate(folder, "--only", "one", "--measures", "retrieval", "--seeds", "3")
    assert [(r["measure"], r["seed"], r["strategy"]) for r in records] == [
        ("retrieval", 3, "slots"),
        ("retrieval", 3, "hadamard"),
    ]
    made = (folder / "ablations.json").read_text()
    assert "--steps 4" in json.loads(made)["command"] and str(folder) not in json.loads(made)["command"]


def test_a_cell_is_the_model_that_it_says() -> None:
    from benchmarks.studies.ablations.measure import model_of
    from benchmarks.studies.ablations.studies import Cell

    model = model_of(
        Cell(3, "hadamard", "mean", True, "key", layers=4, width=24, heads=2, mixed_after=2), 0, 50, classes=2
    )
    assert (model.n, model.strategy.name, model.demuxer.name) == (3, "hadamard", "key")
    assert model.strategy.factor == pytest.approx(1 / 3) and model.strategy.learnable
    assert model.sites.mux[0].path == "bert.encoder.layer.1"
    config = model.backbone.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (4, 24, 2)
    frozen = model_of(Cell(learnable=False), 0, 50)
    assert not list(frozen.strategy.parameters()) and list(model_of(Cell(), 0, 50).strategy.parameters())
    apart = model_of(Cell(demux="unbind", centered=False, apart=True), 0, 50)
    assert not apart.demuxer.center_gradients and frozen.demuxer.center_gradients
    assert (apart.backbone.encoder.layer[1].output.dense.weight == 0).float().mean() == pytest.approx(0.75)


FIXED = {
    "mixing_depth": {"layers": 4},
    "start": {"n": 8},
    "warm_up": {"n": 8},
    "retrieval_demuxer": {"n": 8, "warm_up": 300},
}

TOGETHER = {
    "start": {"demux", "apart"},
    "centering": {"n", "width", "centered"},
}  # what only makes sense with one another


def test_every_study_varies_one_element_of_one_base() -> None:
    from dataclasses import asdict

    from benchmarks.studies.ablations.studies import BASE, STUDIES

    for name, study in STUDIES.items():
        base = {**asdict(BASE), **FIXED.get(name, {})}
        assert len(set(study.cells.values())) == len(study.cells), name
        assert any(asdict(cell) == base for cell in study.cells.values()), name
        for cell in study.cells.values():
            differs = {key for key, value in asdict(cell).items() if value != base[key]} - {"strategy"}
            assert len(differs) <= 1 or differs <= TOGETHER.get(name, set()), (name, differs)


def made_up(study: Any, seeds: int = 3, **fields: Any) -> list[dict[str, Any]]:
    """A record for every cell, measure and seed: 50, 51, 52 ..., and the seed on top."""
    common = {"settings": {"limit": 3000}, "always_the_most_frequent": 20.0, **fields}
    return [
        {"cell": cell.key(m, s), "measure": m, "seed": s, "metric": f"{m}, %", "mean": 50.0 + k + s, **common}
        for m in study.measures
        for k, cell in enumerate(study.cells.values())
        for s in range(seeds)
    ]


def test_tables_hold_means_and_deviations_over_seeds() -> None:
    from benchmarks.studies.ablations import draw
    from benchmarks.studies.ablations.studies import STUDIES

    records = made_up(STUDIES["instances"])
    records[-1]["mean"] = None
    table = draw.markdown("instances", records[3:]).splitlines()
    assert table[0] == "| n (instances in a mixture) | converge, % |"
    assert table[2] == "| 4 slots | 52.0 ± 1.0 (3 seeds) |"  # 51, 52, 53; and the first cell has no record
    assert table[-1].endswith("| 2 of 3 seeds within 3,000 |")
    assert draw.markdown("instances", []) == "" and draw.figure("instances", []) is None
    assert "± " not in draw.markdown("heads", made_up(STUDIES["heads"], seeds=1))
    both = draw.markdown("strategy", made_up(STUDIES["strategy"])).splitlines()
    assert both[0] == "| strategy | retrieval, % | task, % |" and both[2].startswith("| slots | 51.0 ± 1.0")


def test_every_study_has_a_picture(tmp_path: Path) -> None:
    from benchmarks.studies.ablations import draw
    from benchmarks.studies.ablations.studies import STUDIES

    records = {r["cell"]: r for study in STUDIES.values() for r in made_up(study)}
    (tmp_path / "ablations.json").write_text(json.dumps({"records": list(records.values())}))
    draw.main(["--results", str(tmp_path / "ablations.json"), "--images", str(tmp_path / "images")])
    assert {path.name for path in (tmp_path / "images").iterdir()} == {f"ablation_{name}.png" for name in STUDIES}
    heads = draw.figure("heads", list(records.values())).axes[0]
    assert list(heads.containers[0].lines[0].get_xdata()) == [1, 2, 4, 6, 12] and heads.get_ylabel() == "retrieval, %"
    demuxers = draw.figure("demuxer", list(records.values())).axes
    assert len(demuxers) == 2 and len(demuxers[0].get_yticklabels()) == len(STUDIES["demuxer"].cells)


def test_the_page_shows_every_study() -> None:
    from benchmarks.studies.ablations.studies import STUDIES

    page = (ROOT / "docs" / "ablations.md").read_text()
    assert all(f"<!-- table: ablation {name} -->" in page for name in STUDIES)
