"""The study of converted models, on a tiny encoder of random weights."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from benchmarks.studies.convert import pages, training
from benchmarks.studies.convert.__main__ import main
from benchmarks.studies.convert.backbone import Encoder, Sizes, from_transformers
from benchmarks.studies.convert.cells import TEACHER, Cell, Task, measure
from benchmarks.studies.convert.compared import core, more, others
from benchmarks.studies.convert.configurations import ELASTIC, IN_STEPS, KINDS, Configuration
from benchmarks.studies.convert.pack import FILE, SPLITS, Packed
from benchmarks.studies.convert.plan import plan, rates
from benchmarks.studies.convert.rivals import keep_layers, pool, pooled_after
from benchmarks.studies.convert.rows import Rows
from benchmarks.studies.convert.speed import speeds
from benchmarks.studies.convert.work import layers_worth
from muxwrap import Multiplex
from muxwrap.strategies import Orthogonal

SIZES = Sizes(40, 32, dim=32, heads=1, inner=64)


def encoder(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(SIZES, 2).eval()


def write(folder: Path, rows: int = 40) -> Path:
    """A packed file whose rows' class is that of their first word piece."""
    rng = torch.Generator().manual_seed(0)
    tensors = {f"weights.{k}": v.half() for k, v in encoder().state_dict().items() if "classifier" not in k}
    for split in SPLITS:
        lengths = torch.randint(4, 20, (rows,), generator=rng)
        ids = [torch.randint(4, 40, (length,), generator=rng) for length in lengths.tolist()]
        tensors[f"snli.{split}.labels"] = torch.stack([row[1] % 2 for row in ids]).to(torch.uint8)
        for row in ids:
            row[0], row[-1] = 2, 3
        tensors[f"snli.{split}.ids"] = torch.cat(ids).to(torch.int16)
        tensors[f"snli.{split}.lengths"] = lengths.to(torch.int16)
    tensors["snli.classes"] = torch.tensor(2)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(lzma.compress(save(tensors)))
    return folder


def inputs(rows: int = 5, length: int = 13) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    mask = (torch.arange(length) < torch.randint(3, length + 1, (rows, 1), generator=rng)).long()
    ids = torch.randint(4, 40, (rows, length), generator=rng)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


def test_it_is_the_bert_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=6,
        num_attention_heads=1,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    bert = transformers.BertModel(config).eval()
    model = encoder()
    missing = model.load_state_dict(from_transformers(bert.state_dict(), 6), strict=False)
    assert not missing.unexpected_keys and all("classifier" in key for key in missing.missing_keys)
    given = inputs()
    with torch.no_grad():
        torch.testing.assert_close(model(**given)[1], bert(**given).last_hidden_state[:, 0], atol=1e-4, rtol=1e-4)


def test_the_pair_s_second_text_has_the_other_type(tmp_path: Path) -> None:
    rows = Rows(Packed(write(tmp_path)), "snli", "train", torch.device("cpu"))
    rows.ids = torch.tensor([[2, 9, 3, 8, 8, 3, 0, 0]])
    rows.lengths_there = torch.tensor([6])
    made = rows.inputs(torch.tensor([0]), 8)
    assert made["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]


def test_every_row_comes_once_in_batches_of_few_lengths(tmp_path: Path) -> None:
    rows = Rows(Packed(write(tmp_path)), "snli", "train", torch.device("cpu"))
    for seed in (None, 3):
        batches = list(rows.batches(8, seed))
        assert sorted(torch.cat([part for part, _ in batches]).tolist()) == list(range(40))
        assert all(length % 8 == 0 and length >= int(rows.lengths[part].max()) for part, length in batches)


def test_fewer_layers_are_the_first_ones() -> None:
    model = encoder()
    kept = keep_layers(model, 2)
    with torch.no_grad():
        given = inputs()
        x = model.embeddings(given["input_ids"], given["token_type_ids"])
        mask = given["attention_mask"][:, None, None].bool()
        for layer in model.layers[:2]:
            x = layer(x, mask)
        torch.testing.assert_close(kept(**given)[1], x[:, 0])
    assert len(model.layers) == 6


def test_pooled_tokens_are_means_over_what_is_not_padding() -> None:
    x = torch.arange(14.0).reshape(1, 7, 2)
    pooled, size = pool(x, torch.tensor([[1, 1, 1, 1, 1, 1, 0]]), 4)
    assert size.tolist() == [[1, 4, 1]]
    assert pooled.tolist() == [[[0, 1], [5, 6], [10, 11]]]


def test_equal_tokens_are_answered_as_before_they_were_pooled() -> None:
    model = encoder()
    model.embeddings.position.weight.data.zero_()
    ids = torch.full((1, 13), 5)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": 0 * ids}
    ids[0, 0] = 2
    with torch.no_grad():
        for after in (1, 3, 5):
            for n in (2, 4, 5):
                torch.testing.assert_close(pooled_after(model, after, n)(**given)[1], model(**given)[1])


def test_a_row_s_padding_does_not_matter_when_pooled() -> None:
    model = pooled_after(encoder(), 2, 4)
    given = inputs()
    with torch.no_grad():
        whole = model(**given)[1]
        for row in range(5):
            length = int(given["attention_mask"][row].sum())
            alone = model(**{name: value[row : row + 1, :length] for name, value in given.items()})[1]
            torch.testing.assert_close(whole[row : row + 1], alone)


@pytest.mark.parametrize("config", list(dict.fromkeys([*core(), *others()])), ids=str)
def test_every_configuration_answers_every_row_and_costs_less(config: Configuration, tmp_path: Path) -> None:
    teacher = encoder()
    rows = Rows(Packed(write(tmp_path)), "snli", "train", torch.device("cpu"))
    model = config.make(teacher, lambda: [inputs(16)], 0).eval()
    with torch.no_grad():
        logits, state = model(**inputs(11))
    assert logits.shape == (11, 2) and state.shape == (11, 32)
    assert layers_worth(model, teacher, rows) < layers_worth(teacher, teacher, rows) < 6


def test_the_most_telling_cells_come_first() -> None:
    cells = plan(["snli", "qnli"], [0, 1], None)
    assert len(cells) == len(set(cells))
    assert cells[0] == Cell("snli", TEACHER, 0)
    kinds = [cell.configuration.kind for cell in cells[1:8]]
    assert len(set(kinds)) == 7  # each kind chooses its learning rate early
    for task in ("snli", "qnli"):
        for seed in (0, 1):
            students = [i for i, c in enumerate(cells) if (c.task, c.seed) == (task, seed)]
            assert cells[students[0]].configuration == TEACHER
    assert {c.configuration.kind for c in plan(["snli"], [0], ["slots"])} == {"plain", "slots"}


def test_learning_rates_are_chosen_once_per_kind() -> None:
    cell = Cell("qnli", Configuration("plain", 3), 1)
    record = {"dataset": "snli", "kind": "plain", "lr": 1e-4, "tried": {"0.0001": 50.0, "0.0003": 40.0}}
    assert rates(cell, []) is None
    assert rates(cell, [{**record, "tried": {"0.0001": 50.0}}]) is None  # followed another, and has not chosen
    assert rates(cell, [record]) == [1e-4]
    assert rates(cell, [record, {**record, "dataset": "qnli", "lr": 3e-4}]) == [3e-4]
    assert rates(cell, [{**record, "kind": "slots"}]) is None
    assert rates(Cell("qnli", TEACHER, 1), [{**record, "kind": "teacher"}]) is None


def test_a_cell_is_trained_from_its_teacher(tmp_path: Path) -> None:
    task = Task(Packed(write(tmp_path)), "snli", torch.device("cpu"), tmp_path)
    teacher = measure(task, Cell("snli", TEACHER, 0), None, 2, float("inf"))
    assert teacher["configuration"] == "teacher" and set(teacher["tried"]) == {"5e-05", "0.0001", "0.0002"}
    student = Cell("snli", Configuration("orthogonal", after=2, n=2), 0)
    found = measure(task, student, [1e-3], 2, float("inf"))
    assert found["lr"] == 1e-3 and found["groupings"] == 2 and len(found["selected"]) == found["epochs"]
    model = student.configuration.make(task.teacher(0), list, 0)
    phi = model.strategy
    assert isinstance(phi, Orthogonal) and torch.equal(phi.keys[0], torch.eye(32))


@pytest.mark.parametrize("kind", [*ELASTIC, *IN_STEPS])
def test_a_model_of_several_n(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(Packed(write(tmp_path)), "snli", torch.device("cpu"), tmp_path)
    torch.save(encoder().state_dict(), task.path(0))
    seen: list[int] = []
    loss_of = training.loss_of
    config = Configuration(kind, after=2, n=4, long=True)
    made: list[Multiplex] = []

    def make(*args: Any) -> Multiplex:
        made.append(wrap(*args))
        return made[-1]

    def spied(*args: Any) -> torch.Tensor:
        seen.append(made[-1].n)
        return loss_of(*args)

    wrap = config.make
    monkeypatch.setattr(Configuration, "make", lambda _, *args: make(*args))
    monkeypatch.setattr(training, "loss_of", spied)
    found = measure(task, Cell("snli", config, 0), [1e-3], 1, float("inf"))
    assert found["epochs"] == 10 and found["configuration"] == f"{kind} after layer 2, n=4, 10 epochs"
    if kind in ELASTIC:
        assert seen == [1, 4, 2] * 10 and set(found["at"]) == {"1", "2", "4"} and found["at"]["4"] == found["mean"]
    else:
        assert seen == [1] * 4 + [2] * 3 + [4] * 3 and "at" not in found


def test_what_takes_longer_is_asked_for() -> None:
    usual, long = (plan(["snli"], [0], None, long) for long in (False, True))
    assert long[0] == usual[0] == Cell("snli", TEACHER, 0)
    assert {cell.configuration for cell in long[1:]} == set(more())
    assert not set(usual[1:]) & set(long[1:])


def test_the_whole_run_on_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, out = write(tmp_path / "packed"), tmp_path / "out"
    common = ["--packed", str(packed), "--out", str(out), "--device", "cpu", "--tasks", "snli", "--kinds", "plain"]
    run = ["run", *common, "--jobs", "2", "--seeds", "0", "--kept", str(tmp_path / "kept"), "--groupings", "2"]
    main(run)
    main(["speed", *common])
    said = capsys.readouterr().out
    assert "0 of 5 cells are left" in said and "| teacher | 5." in said and "| plain, 3 layers | 2." in said
    records = [json.loads(path.read_text()) for path in (out / "records").glob("*.json")]
    assert {record["configuration"] for record in records} == {"teacher", *(f"plain, {k} layers" for k in (1, 2, 3, 4))}
    written = [path.stat().st_mtime for path in (out / "records").glob("*.json")]
    main(run)  # nothing is left to do
    assert written == [path.stat().st_mtime for path in (out / "records").glob("*.json")]


def test_every_configuration_is_timed_beside_the_teacher(tmp_path: Path) -> None:
    task = Task(Packed(write(tmp_path)), "snli", torch.device("cpu"), tmp_path)
    found = speeds(task, [Configuration(kind, after=2, n=2) for kind in KINDS if kind != "plain"])
    assert found[0]["configuration"] == "teacher" and found[0]["ratio_to_bare"] == 1
    assert len(found) == len(KINDS) and all(each["instances_per_second"] > 0 for each in found)


def test_the_best_at_a_speed_is_chosen_on_the_rows_that_select() -> None:
    def scored(name: str, kind: str, mean: float, selected: float, seed: int = 0) -> dict[str, Any]:
        model = {"configuration": name, "kind": kind, "dataset": "snli", "seed": seed}
        return {**model, "mean": mean, "selected": [0.0, selected]}

    def timed(name: str, ratio: float, dtype: str = "float32") -> dict[str, Any]:
        return {"configuration": name, "kind": "speed", "dataset": "snli", "ratio_to_bare": ratio, "dtype": dtype}

    records = [scored("teacher", "teacher", 81.0, 81.0), scored("teacher", "teacher", 80.0, 81.0, seed=1)]
    records += [scored("a", "tokens", 79.0, 80.0), scored("b", "tokens", 79.5, 79.0), scored("c", "plain", 78.0, 78.0)]
    records += [scored("c", "plain", 79.0, 78.0, seed=1), timed("a", 2.1), timed("b", 3.2), timed("c", 2.5)]
    records += [timed("a", 9.0, "bfloat16"), timed("teacher", 1.0)]
    assert pages.at_speeds(records) == [
        ["SNLI", "2x, for 0.5 at most", "a", "2.10x", "2.0", "c", "2.50x", "2.0"],
        ["SNLI", "3x, for 1.5 at most", "b", "3.20x", "1.5", "–", "–", "–"],
    ]
    assert pages.whole(records)[1][:4] == ["b", "–", "3.20x", "79.5"]


def test_long_trainings_stand_beside_the_teacher_of_their_run() -> None:
    def scored(mean: float, dtype: str = "", **model: Any) -> dict[str, Any]:
        common = {"dataset": "snli", "seed": 3, "device": "cpu", "mean": mean, **({"dtype": dtype} if dtype else {})}
        return {**common, "kind": "teacher", "configuration": "teacher", **model}

    def mixed(mean: float, after: int, n: int, dtype: str = "", kind: str = "orthogonal") -> dict[str, Any]:
        name = str(Configuration(kind, after=after, n=n, long=True))
        return scored(mean, dtype, kind=kind, configuration=name, after=after, n=n)

    records = [scored(80.3), scored(80.2, "bfloat16"), mixed(79.1, 2, 4), mixed(79.2, 2, 4, "bfloat16")]
    records += [mixed(71.3, 2, 8, "bfloat16"), mixed(80.6, 3, 2, "bfloat16")]
    records += [mixed(80.4, 3, 4, "bfloat16", "orthogonal, random"), mixed(70.0, 3, 4, "bfloat16", "slots")]
    assert pages.longer(records) == [
        ["layer 3", "φ of the first instance = I", "bfloat16", "80.2", "80.6", "–", "–"],
        ["layer 3", "random rotations", "bfloat16", "80.2", "–", "80.4", "–"],
        ["layer 2", "φ of the first instance = I", "bfloat16", "80.2", "–", "79.2", "71.3"],
        ["layer 2", "φ of the first instance = I", "float32", "80.3", "–", "79.1", "–"],
    ]


def test_the_trained_models_of_every_task() -> None:
    def scored(task: str, mean: float, selected: float, seed: int = 0) -> dict[str, Any]:
        model = {"configuration": "teacher", "kind": "teacher", "dataset": task, "seed": seed, "train_rows": 18000}
        return {**model, "mean": mean, "selected": [0.0, selected, 1.0]}

    records = [scored("mnli", 70.0, 71.0), scored("snli", 80.0, 81.0), scored("snli", 81.0, 81.4, seed=1)]
    assert pages.teachers(records) == [
        ["SNLI", "18,000", "80.5 ± 0.7", "81.2", "2"],
        ["MNLI", "18,000", "70.0", "71.0", "1"],
    ]


def test_only_trained_models_are_timed(tmp_path: Path) -> None:
    packed, out = write(tmp_path / "packed"), tmp_path / "out"
    (out / "records").mkdir(parents=True)
    record = {"dataset": "snli", "configuration": "plain, 2 layers", "kind": "plain", "seed": 0, "mean": 50.0}
    (out / "records" / "one.json").write_text(json.dumps(record))
    options = ["--packed", str(packed), "--out", str(out), "--device", "cpu"]
    for rounds in ("1", "2"):  # the second run replaces the records of the first
        main(["speed", *options, "--rounds", rounds])
    found = json.loads((out / "speed-cpu.json").read_text())
    assert [(r["configuration"], r["rounds"]) for r in found] == [("teacher", 2), ("plain, 2 layers", 2)]
    (out / "records" / "two.json").write_text(json.dumps({**record, "configuration": "plain, 3 layers"}))
    main(["speed", *options, "--rounds", "1", "--only", "plain, 3 layers"])
    found = json.loads((out / "speed-cpu.json").read_text())
    assert [r["rounds"] for r in found] == [1, 2, 1]  # teacher, two layers, three layers


def test_a_long_training_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Packed(write(tmp_path), None)
    rows = {split: Rows(packed, "snli", split, torch.device("cpu")) for split in SPLITS}
    made, again = encoder(1), encoder(1)
    whole = training.fit(made, rows["train"], rows["select"], None, training.How(3, 1e-3, 0))
    score, scored = training.accuracy_at, []

    def stopped(*args: Any) -> float:
        scored.append(args)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return score(*args)

    how = training.How(3, 1e-3, 0, begun=tmp_path / "kept" / "begun.pt")
    monkeypatch.setattr(training, "accuracy_at", stopped)
    with pytest.raises(KeyboardInterrupt):
        training.fit(again, rows["train"], rows["select"], None, how)
    resumed = training.fit(encoder(2), rows["train"], rows["select"], None, how)
    assert resumed.selected == whole.selected and len(scored) == 4  # the first epoch was not run again
    assert all(torch.equal(value, whole.state[name]) for name, value in resumed.state.items())
    assert not any((tmp_path / "kept").iterdir())
