"""Files in, answers out: a row for a row, the same after a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from batch_jobs import answers, same, sentences, text_model, tokenizer, write
from helpers import move_parameters

from muxwrap import Multiplex, MuxwrapError
from muxwrap.inference import Texts, predict
from muxwrap.inference.manifest import MANIFEST
from muxwrap.samplers import pad_batch

TEXTS = sentences(41)
KEYS = [f"k{number}" for number in range(41)]


@pytest.fixture(scope="module")
def model() -> Multiplex:
    return text_model()


def run(model: Multiplex, inputs: Any, out: Path, **options: Any) -> dict[str, dict[str, Any]]:
    encoder = options.pop("encoder", None) or Texts(tokenizer())
    predict(model, inputs, out, encoder, progress=False, **options)
    return answers(out)


def test_answers_are_those_of_the_model_for_rows_of_like_length(model: Multiplex, tmp_path: Path) -> None:
    found = run(model, write(tmp_path / "a.parquet", {"id": KEYS, "text": TEXTS}), tmp_path / "out", key="id", batch=6)
    order = sorted(range(41), key=lambda row: -len(TEXTS[row].split()))
    order.append(order[-2])  # fills the last mixture
    encoded = tokenizer()(TEXTS)
    with torch.no_grad():
        for at in range(0, 42, 6):
            rows = order[at : at + 6]
            batch = pad_batch([{name: encoded[name][row] for name in encoded} for row in rows])
            logits = model(**batch).logits
            for row, wanted in list(zip(rows, logits, strict=True))[: 41 - at]:
                torch.testing.assert_close(torch.tensor(found[KEYS[row]]["logits"]), wanted)
    assert {row["error"] for row in found.values()} == {None}


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_every_format_gives_the_same_answers(model: Multiplex, tmp_path: Path, ending: str) -> None:
    texts = [f'{text} , "w1"\nw2' if ending != "tsv" and row % 9 == 0 else text for row, text in enumerate(TEXTS)]
    wanted = run(model, write(tmp_path / "a.parquet", {"text": texts, "id": KEYS}), tmp_path / "one", key="id", part=10)
    if ending == "csv":
        texts = [text.replace('"', '""') for text in texts]
    path = write(tmp_path / f"b.{ending}", {"text": texts, "id": KEYS})
    if ending == "tsv":
        path.write_text(path.read_text().replace(",", "\t"))
    same(run(model, path, tmp_path / "two", key="id", part=10), wanted)


def test_the_order_of_files_is_that_of_their_names(model: Multiplex, tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "data" / name, {"text": TEXTS[start : start + 9]})
        for name, start in (("b.csv", 0), ("a.jsonl", 9), ("x/b.csv", 18))
    ]
    (tmp_path / "data" / "README.txt").write_text("not rows")
    (tmp_path / "data" / ".hidden.csv").write_text("not rows")
    wanted = run(model, tmp_path / "data", tmp_path / "one", part=7)
    assert list(wanted)[:10] == [*(f"a.jsonl:{row}" for row in range(9)), "b.csv:0"]
    assert list(wanted)[18:] == [f"x/b.csv:{row}" for row in range(9)]
    same(run(model, paths[::-1], tmp_path / "two", part=7), wanted)
    summary = predict(model, tmp_path / "data", tmp_path / "one", Texts(tokenizer()), part=7, progress=False)
    assert (summary.rows, summary.parts, summary.done_before, summary.ignored) == (27, 4, 4, 1)
    assert str(summary).startswith("27 rows in 4 parts, 4 of them done before, 0 with an error")


class Stops(Texts):
    """Ends the run at the third part."""

    calls = 0

    def encode(self, rows: Any) -> Any:
        self.calls += 1
        if self.calls == 2 + 3:  # two for what the encoder is known by
            raise KeyboardInterrupt
        return super().encode(rows)


def test_a_restart_goes_on_and_gives_the_same_answers(model: Multiplex, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": TEXTS})
    wanted = run(model, path, tmp_path / "whole", part=10)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(model, path, out, part=10, encoder=Stops(tokenizer()))
    done = sorted(out.glob("part-*"))
    assert [each.name for each in done] == ["part-00000.parquet", "part-00001.parquet"]
    kept = done[0].stat().st_mtime_ns
    done[1].write_bytes(done[1].read_bytes()[:100])  # as a crash of the machine may leave it
    (out / ".writing-123").write_text("what a killed worker leaves")
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["settings"]["encoder"] = json.loads((tmp_path / "whole" / MANIFEST).read_text())["settings"]["encoder"]
    (out / MANIFEST).write_text(json.dumps(manifest))
    assert list(run(model, path, out, part=10)) == list(wanted)
    same(answers(out), wanted)
    assert done[0].stat().st_mtime_ns == kept
    assert not list(out.glob(".writing-*"))


def test_a_restart_with_something_else_is_refused(model: Multiplex, tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.csv", {"text": TEXTS}), tmp_path / "out"
    run(model, path, out)
    other = text_model()
    move_parameters(other, 1)
    for changed, options, name in (
        (other, {}, "model"),
        (text_model(n=4), {}, "model"),
        (model, {"encoder": Texts(tokenizer(), max_length=3)}, "encoder"),
        (model, {"batch": 8}, "batch 64, and now it is 8"),
        (model, {"group_by": "text"}, "group_by None, and now it is 'text'"),
    ):
        with pytest.raises(MuxwrapError, match=rf"begun with {name}.*give the same to go on, or another out="):
            run(changed, path, out, **options)
    write(path, {"text": [*TEXTS[:-1], "w3"]})
    with pytest.raises(MuxwrapError, match="begun with input"):
        run(model, path, out)


def test_answers_of_tokens_are_as_long_as_their_row(tmp_path: Path) -> None:
    found = run(text_model(task="token"), write(tmp_path / "a.csv", {"text": TEXTS}), tmp_path / "out", label=True)
    for row, text in enumerate(TEXTS):
        answer, words = found[f"a.csv:{row}"], len(text.split())
        assert len(answer["logits"]) == len(answer["label"]) == len(answer["score"]) == words
        assert answer["label"][0] == f"LABEL_{torch.tensor(answer['logits'][0]).argmax()}"


def test_labels_are_the_likeliest_classes(model: Multiplex, tmp_path: Path) -> None:
    found = run(model, write(tmp_path / "a.csv", {"text": TEXTS}), tmp_path / "out", label=True)
    for row in found.values():
        score, label = torch.tensor(row["logits"]).softmax(-1).max(-1)
        assert row["label"] == f"LABEL_{label}"
        assert row["score"] == pytest.approx(score.item())


def test_pairs_are_read_from_two_columns(model: Multiplex, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": TEXTS[:6], "passage": TEXTS[6:12]})
    found = run(model, path, tmp_path / "out", encoder=Texts(tokenizer(), ("question", "passage")), batch=2)
    joined = [f"{a} {b}" for a, b in zip(TEXTS[:6], TEXTS[6:12], strict=True)]
    wanted = run(model, write(tmp_path / "b" / "a.jsonl", {"text": joined}), tmp_path / "other", batch=2)
    same(found, wanted)


def test_columns_are_those_of_the_page(model: Multiplex, tmp_path: Path) -> None:
    run(model, write(tmp_path / "a.csv", {"text": TEXTS}), tmp_path / "out", label=True)
    schema = pq.read_schema(tmp_path / "out" / "part-00000.parquet")
    assert {field.name: str(field.type) for field in schema} == {
        "key": "string",
        "logits": "list<item: float>" if "item" in str(schema.field("logits").type) else "list<element: float>",
        "label": "string",
        "score": "float",
        "error": "string",
    }


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = text_model().train()
    run(model, write(tmp_path / "a.csv", {"text": TEXTS[:3]}), tmp_path / "out")
    assert model.training and all(module.training for module in model.modules())
