"""The text study, on files of a few rows in the publishers' formats."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

for needed in ("tokenizers", "transformers", "timm", "torchvision", "tqdm"):  # the last three for the results' header
    pytest.importorskip(needed)

WORDS = ["good", "bad", "dull", "fine", "film", "plot", "cast", "and", "or", "the", "in", "old", "new", "#", "##s"]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    made = io.StringIO(newline="")
    csv.writer(made).writerows(rows)
    write(path, made.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Every file that the study reads, tiny."""
    data = tmp_path / "data"
    vocabulary = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
    write(data / "vocab" / "bert-base-uncased-vocab.txt.gz", "".join(f"{word}\n" for word in vocabulary))
    rows = [f"{'the ' * (k % 3)}{'good fine' if k % 2 else 'bad dull'} film\t{k % 2}\n" for k in range(90)]
    write(data / "sst2" / "train.tsv.gz", "sentence\tlabel\n" + "".join(rows))
    write(data / "sst2" / "dev.tsv.gz", 'sentence\tlabel\na "good film\t1\nbad plot \t0\ndull cast\t0\n')
    tests = [f"{k % 2} {'-lrb- good -rrb-' if k % 2 else 'bad'} cast\n" for k in range(35)]
    write(data / "sst2" / "stsa.binary.test.gz", "".join(tests))
    pairs = [["premise", "hypothesis", "label"], ["old, new", "new", 0], ["old", "in", -1], ["plot", "cast", 2]]
    write_csv(data / "snli" / "dev.csv.gz", pairs)
    write_csv(data / "snli" / "test.csv.gz", [*pairs, ["film\nfilm", "plot", 1]])
    write(data / "snli" / "train_18000.tsv.gz", '1\t1\tthe "film\tgood\n3\t3\told\tnew\n2\t2\tbad\tin\n')
    prompt = 'For the statement, "{}", does the hypothesis "{}" represent entailment, contradiction, or neutrality?'
    train = [[prompt.format(f'he said "{k}"\nbad', "good"), "neutral", "mnli"] for k in range(11)]
    write_csv(data / "mnli" / "train_10k_prompted.csv.gz", [["Question", "Answer", "Origin"], *train])
    found = {"premise": "old", "hypothesis": "new", "label": "contradiction"}
    write(data / "mnli" / "dev_matched.jsonl.gz", json.dumps(found) + "\n")
    asked = [["text1", "text2", "label"], *([f"plot {k}?", "film, cast", k % 2] for k in range(11))]
    for name in ("dev", "train_tail_4976"):
        write_csv(data / "qnli" / f"{name}.csv.gz", asked)
    tweet = "Old\tB-person\nfilms\tI-person\nthe\tO\n\n\ngood\tB-place\n \u200d\tO\nbad\tO\n\n"
    for name in ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
        write(data / "wnut17" / f"{name}.gz", tweet * 9)
    for k, name in enumerate("abefgh"):
        write(data / "btc" / f"{name}.conll.gz", tweet.replace("place", "LOC") * (k + 1))
    (data / "wikitext-2").mkdir()
    with zipfile.ZipFile(data / "wikitext-2" / "wikitext-2-train-articles.zip", "w") as archive:
        archive.writestr("wikitext-2/wiki.train.tokens", '" = Title = \n\n the ""good"" film , \n"\n" bad plot \n"\n')
    return data


def study(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    from benchmarks.studies.text import study

    results = folder.parent / "text.json"
    sizes = ["--layers", "1", "--dim", "16", "--vocab", "0", "--threads", "1", "--device", "cpu"]
    study.main(["--data", str(folder), "--results", str(results), *sizes, *arguments])
    return json.loads(results.read_text())["records"]


def test_labels_and_texts(folder: Path) -> None:
    from benchmarks.studies.text.data import load

    sst2 = load("sst2", folder)
    assert sst2.train.texts[:2] == [("bad dull film",), ("the good fine film",)] and sst2.train.labels[:2] == [0, 1]
    assert sst2.select.texts[0] == ('a "good film',) and sst2.select.labels == [1, 0, 0]
    assert sst2.report.texts[:2] == [("bad cast",), ("( good ) cast",)] and len(sst2.report.labels) == 35
    assert len(load("sst2", folder, limit=7).train.texts) == 7
    snli = load("snli", folder)
    assert [snli.classes[label] for label in snli.train.labels] == ["neutral", "entailment", "contradiction"]
    assert snli.train.texts[0] == ('the "film', "good")
    assert snli.select.labels == [0, 2] and snli.select.texts[0] == (
        "old, new",
        "new",
    )  # without a gold label: left out
    assert snli.report.labels == [0, 2, 1]
    mnli = load("mnli", folder)
    assert [len(split.texts) for split in (mnli.train, mnli.select, mnli.report)] == [9, 2, 1]
    assert mnli.train.texts[0] == ('he said "1"\nbad', "good") and mnli.select.texts[0] == ('he said "0"\nbad', "good")
    assert (mnli.train.labels[0], mnli.report.labels[0]) == (1, 2)
    qnli = load("qnli", folder)
    assert len(qnli.train.texts) == 9 and qnli.select.labels == [0, 0] and len(qnli.report.labels) == 11


def test_tags(folder: Path) -> None:
    from benchmarks.studies.text.data import load, wikitext

    wnut = load("wnut17", folder)
    assert wnut.classes == ("O", "B-person", "B-place", "I-person")
    assert wnut.train.texts[:2] == [("Old", "films", "the"), ("good", " \u200d", "bad")]
    assert wnut.train.labels[:2] == [["B-person", "I-person", "O"], ["B-place", "O", "O"]]
    btc = load("btc", folder)
    assert [len(split.texts) for split in (btc.train, btc.select, btc.report)] == [2 * 11, 2 * 4, 2 * 6]
    assert wikitext(folder) == [('the "good" film ,',), ("bad plot",)]


def test_word_pieces(folder: Path) -> None:
    from benchmarks.studies.text.data import load
    from benchmarks.studies.text.tokenizer import WordPieces

    vocabulary = folder / "vocab" / "bert-base-uncased-vocab.txt.gz"
    task = load("wnut17", folder)
    encoder = WordPieces(vocabulary, task.train.texts, None, tagging=True)
    encoded = encoder.split(task.train, task.classes)
    # [CLS] old film ##s the [SEP]; a word without a word piece has no place, and its tag is not learned
    assert encoded.lengths[:2].tolist() == [6, 4]
    assert encoded.places[:2] == [[1, 2, 4], [1, -1, 2]]
    assert encoded.labels[0].tolist() == [-100, 1, 3, -100, 0, -100]
    assert encoder.size == 4 + len(["old", "film", "##s", "the", "good", "bad"])
    few = WordPieces(vocabulary, [("good good good bad bad the",)], 6, tagging=False)
    assert few.size == 6
    one = few.split(task.train._replace(texts=[("good the",)], labels=[1]), ())
    assert one.ids.tolist() == [[2, 4, 1, 3]]  # the rarest became [UNK]
    pair = few.split(task.train._replace(texts=[("good", "bad")], labels=[0]), ())
    assert (pair.ids.tolist(), pair.types.tolist()) == ([[2, 4, 3, 5, 3]], [[0, 0, 0, 1, 1]])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-a I-a O B-b", {("a", 1, 3), ("b", 4, 5)}),
        ("B-a B-a I-a", {("a", 0, 1), ("a", 1, 3)}),
        ("I-a I-a O I-b", {("a", 0, 2), ("b", 3, 4)}),  # an I- without a B-
        ("B-a I-b I-b", {("a", 0, 1), ("b", 1, 3)}),
        ("O O", set()),
    ],
)
def test_spans(tags: str, expected: set[Any]) -> None:
    from benchmarks.studies.text.scores import spans

    assert spans(tags.split()) == expected


def test_entity_f1() -> None:
    from benchmarks.studies.text.data import Split
    from benchmarks.studies.text.scores import EntityF1
    from benchmarks.studies.text.tokenizer import Encoded

    classes = ("O", "B-a", "I-a", "B-b")
    gold = [["B-a", "I-a", "O", "B-b"], ["O", "B-b"]]
    nothing = torch.zeros(0)
    data = Encoded(nothing, nothing, nothing, nothing, [[1, 2, 3, 4], [1, -1]])  # the last word has no word piece
    score = EntityF1(data, Split([], gold), classes)
    # Row 0 is answered B-a I-a O B-a: one entity of two right, one of two found is wrong. Row 1: O, and O without a word piece.
    answers = torch.tensor([[0, 1, 2, 0, 1], [3, 0, 3, 3, 3]])
    columns = score.counts(torch.nn.functional.one_hot(answers, 4).float(), torch.tensor([0, 1]))
    assert columns.tolist() == [[1, 2, 2, 3, 4], [0, 0, 1, 1, 2]]
    assert score.score(columns.sum(0)) == pytest.approx(100 * 2 * 1 / (2 + 3))
    assert score.extra(columns.sum(0)) == {"token_accuracy": pytest.approx(100 * 4 / 6)}
    assert score.score(torch.zeros(5)) == 0


def test_every_example_is_scored_at_every_index(folder: Path) -> None:
    from benchmarks.studies.text.batches import rows_for
    from benchmarks.studies.text.data import load
    from benchmarks.studies.text.models import Sizes, make
    from benchmarks.studies.text.scores import Accuracy
    from benchmarks.studies.text.tokenizer import WordPieces
    from benchmarks.studies.text.training import counts, recipe

    task = load("sst2", folder)
    encoder = WordPieces(folder / "vocab" / "bert-base-uncased-vocab.txt.gz", task.train.texts, None, False)
    data = encoder.split(task.report, task.classes)
    model = make(task, "slots", 4, Sizes(1, 16, 4, encoder.size), 0)
    how = recipe(epochs=1, mixtures=8, seed=0)
    seen = []
    for grouping in range(2):
        columns, index = counts(model, data, Accuracy(data.labels), how, grouping)
        assert columns[:, 1].sum() == 35 and index.bincount().tolist() == [9, 9, 9, 8]
        seen.append([rows.tolist() for rows in rows_for(model, data, how, grouping)])
    assert seen[0] != seen[1]


def test_cells_resume_and_are_complete(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.studies.text import report

    arguments = ["--only", "sst2", "--n", "2", "--warm-up", "0", "3", "--epochs", "2", "--lr", "1e-2", "1e-9"]
    arguments += ["--heads", "4", "--configurations", "B1", "B2", "rival", "block", "slots", "apart"]
    records = study(folder, *arguments)
    printed = capsys.readouterr().out
    done = {(r["configuration"], r["n"], r["warm_up"]) for r in records}
    multiplexed = {(name, 2, steps) for name in ("slots", "apart") for steps in (0, 3)}
    assert done == {("B1", 1, 0), ("B2", 1, 3), ("rival", 2, 0), ("block", 2, 0)} | multiplexed
    assert printed.count("sst2 ") == len(records)
    for r in records:
        multiplexed = r["configuration"] in ("slots", "apart")
        assert r["scored"] == 35 and len(r["per_index"]) == (2 if multiplexed else 1)
        assert r["groupings"] == (5 if multiplexed else 1) and (r["std"] is not None) == multiplexed
        assert set(r["tried"]) == {"0.01", "1e-09"} and r["tried"][f"{r['lr']:g}"] == max(r["tried"].values())
        assert r["selected"] == pytest.approx(max(r["tried"].values()), abs=0.01)
    ratios = {r["configuration"]: r["operations_ratio"] for r in records}
    assert ratios["B1"] == ratios["B2"] == 1 < ratios["rival"] < ratios["block"]
    assert all("retrieval" in r for r in records if r["warm_up"])

    first = (folder.parent / "text.json").read_text()
    study(folder, *arguments)
    assert (folder.parent / "text.json").read_text() == first  # nothing was measured again
    assert capsys.readouterr().out == ""
    again = study(folder, *arguments, "--configurations", "slots", "--warm-up", "0", "--seeds", "0", "1")
    assert len(again) == len(records) + 1 and list(again[-1]["tried"]) == [f"{again[-1]['lr']:g}"]  # rate of seed 0

    page = report.markdown(again)
    assert "### SST-2" in page and "(2 seeds)" in page and "| slots, warm-up 3 |" in page
    assert page.index("| rival |") < page.index("| block |") < page.index("| slots |")
    report.main(["--results", str(folder.parent / "text.json"), "--images", str(folder.parent / "images")])
    assert list((folder.parent / "images").glob("text-sst2-*.png"))


def test_tagging_learns(folder: Path) -> None:
    (record,) = study(
        folder, "--only", "wnut17", "--configurations", "slots", "--n", "2", "--epochs", "40", "--lr", "1e-2"
    )
    assert record["metric"] == "entity F1" and record["mean"] > 60 and record["token_accuracy"] > 75


def test_what_measures_nothing_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--configurations", "B2"], ["--configurations", "slots", "--n", "1"]):
        with pytest.raises(SystemExit):
            study(folder, *arguments)
        assert "nothing to measure" in capsys.readouterr().err


def test_report_compares_what_was_selected() -> None:
    from benchmarks.studies.text import report

    settings = {
        "dataset": "sst2",
        "split": "test",
        "metric": "accuracy",
        "layers": 1,
        "dim": 2,
        "heads": 1,
        "vocab": 3,
        "epochs": 4,
    }
    common = {**settings, "train_rows": 5, "warm_up": 0, "seed": 0, "std": None, "operations_ratio": 1.0}
    common |= {"lr": 1e-3, "best_epoch": 2}

    def record(name: str, n: int, mean: float, selected: float, way: str = "") -> dict[str, Any]:
        scores = {"mean": mean, "selected": selected, "per_index": [mean] * n}
        return {**common, "configuration": name, "n": n, "group": name + way, **scores}

    cells = [record("B1", 1, 80, 80), record("rival", 2, 79, 79), record("slots", 2, 78, 77), record("sign", 2, 70, 78)]
    cells.append(record("sign", 2, 90, 60, "another way"))  # the same cell, which selection does not prefer
    cells += [{**record("sign", 2, 95, 50, "another way"), "seed": 1}]  # nor in the mean over its seeds
    cells += [{**record("sign", 2, 95, 85, "another way"), "seed": 2}]
    (lines,) = report.experiments(cells).values()
    assert report.headline(lines).splitlines()[-1] == "| 2 | sign | 70.0 | -10.0 | – | -9.0 |"


def test_bare_models_teach(folder: Path) -> None:
    from benchmarks.studies.text import report

    arguments = ["--only", "sst2", "--n", "2", "--epochs", "2", "--lr", "1e-2", "--heads", "4"]
    cache = folder.parent / "cache"
    taught = ["--teachers", "0", "1", "--cache", str(cache)]
    study(folder, *arguments, "--configurations", "B1", "rival", "apart")
    records = study(folder, *arguments, "--configurations", "rival", "apart", *taught)
    assert len(list(cache.iterdir())) == 2  # computed once, by the first cell
    answers = [torch.load(path) for path in cache.iterdir()]
    assert all(each.shape == (90, 2) for each in answers) and not torch.equal(*answers)
    assert [record.get("teachers") for record in records] == [None] * 3 + [[0, 1]] * 2
    assert "teachers=[0, 1]" in records[-1]["cell"]
    (lines,) = report.experiments(records).values()
    assert list(lines) == ["B1", "rival", "rival, taught", "apart, crosstalk at 0.1", "apart, crosstalk at 0.1, taught"]
    plain, other = report.headline(lines).splitlines()[2:]
    gap = f"{lines['apart, crosstalk at 0.1, taught'][2].mean - lines['rival, taught'][2].mean:+.1f}"
    assert "taught" not in plain and other.endswith(f"| {gap} |") and "taught" in other
    with pytest.raises(SystemExit):
        study(folder, *arguments, "--configurations", "B1", *taught)


def test_teachers_answers_are_in_the_order_of_the_rows(folder: Path) -> None:
    from benchmarks.studies.text import teachers
    from benchmarks.studies.text.data import load
    from benchmarks.studies.text.models import Sizes, make
    from benchmarks.studies.text.tokenizer import Data, WordPieces
    from benchmarks.studies.text.training import recipe

    task = load("sst2", folder)
    encoder = WordPieces(folder / "vocab" / "bert-base-uncased-vocab.txt.gz", task.train.texts, None, False)
    splits = [encoder.split(split, task.classes) for split in (task.train, task.select, task.report)]
    model = make(task, "B1", 1, Sizes(1, 16, 4, encoder.size), 0).eval()
    found = teachers.logits(model, Data(task, encoder.size, *splits, splits[0]), recipe(epochs=1, mixtures=8, seed=0))
    batch = splits[0].batch(torch.arange(90), torch.device("cpu"))
    with torch.no_grad():
        torch.testing.assert_close(found, model(**batch).logits)
