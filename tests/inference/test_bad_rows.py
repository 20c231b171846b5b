"""A bad row keeps its place and says why; the rows beside it get the answers that they would get without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from batch_jobs import answers, same, sentences, text_model, tokenizer, write

from muxwrap import Multiplex, MuxwrapError
from muxwrap.inference import Texts, predict

TEXTS = sentences(24)


@pytest.fixture(scope="module")
def model() -> Multiplex:
    return text_model(n=4)


def run(model: Multiplex, inputs: Any, out: Path, encoder: Texts | None = None, **options: Any) -> dict[str, Any]:
    predict(model, inputs, out, encoder or Texts(tokenizer()), progress=False, **options)
    return answers(out)


def test_rows_without_a_text(model: Multiplex, tmp_path: Path) -> None:
    bad: dict[int, tuple[Any, str]] = {
        2: (None, "no text in 'text'"),
        3: ("", "no text"),
        5: (float("nan"), "no text"),
        6: (" \n", "nothing but white space"),
        11: (17, "a int in 'text', not a text"),
        12: ("\ud800", "the tokenizer refuses it"),
    }
    rows = [{"id": at, "text": bad[at][0] if at in bad else text} for at, text in enumerate(TEXTS)]
    rows[23].pop("text")
    good = [row for at, row in enumerate(rows) if at not in (*bad, 23)]
    for name, some in (("all.jsonl", rows), ("good.jsonl", good)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in some))
    with (tmp_path / "all.jsonl").open("a") as file:
        file.write('{"id": 24, "text": "w1"\n[1, 2]\n')
    with pytest.raises(MuxwrapError, match=r"row 24 of .*all\.jsonl has no key; fill the column, or leave key= out"):
        run(model, tmp_path / "all.jsonl", tmp_path / "refused", key="id")
    assert not (tmp_path / "refused").exists()
    found = run(model, tmp_path / "all.jsonl", tmp_path / "out", batch=8)
    wanted = run(model, tmp_path / "good.jsonl", tmp_path / "good", key="id", batch=8)
    assert list(found) == [f"all.jsonl:{row}" for row in range(26)]
    for at, (_, message) in {**bad, 23: (None, "no text"), 24: (None, "not JSON"), 25: (None, "a JSON list")}.items():
        row = found.pop(f"all.jsonl:{at}")
        assert message in row["error"] and row["logits"] is None
    same({key.partition(":")[2]: row for key, row in found.items()}, wanted)


def test_rows_that_the_model_refuses(model: Multiplex, tmp_path: Path) -> None:
    texts = [*TEXTS[:14], " ".join(["w1"] * 600), "w49 w2"]
    encoder = Texts(tokenizer(), max_length=1000)  # and the model has 128 positions
    found = run(model, write(tmp_path / "a.csv", {"text": texts}), tmp_path / "out", encoder, batch=8)
    assert "the model refuses it" in found["a.csv:14"]["error"]
    order = sorted(range(16), key=lambda row: -len(texts[row].split()))
    beside = order[1:4]
    encoded = tokenizer()([texts[row] for row in beside])
    with torch.no_grad():
        for row, ids in zip(beside, encoded["input_ids"], strict=True):
            wanted = model(input_ids=torch.tensor([ids] * 4), attention_mask=torch.ones(4, len(ids))).logits[0]
            torch.testing.assert_close(torch.tensor(found[f"a.csv:{row}"]["logits"]), wanted)
    assert [row["error"] for key, row in found.items() if key != "a.csv:14"] == [None] * 15


def test_rows_whose_answer_is_not_a_number(tmp_path: Path) -> None:
    model = text_model(n=4)
    with torch.no_grad():
        model.get_input_embeddings().weight[10 + 49] = torch.nan  # the word w49
    texts = [f"{text} w49" if at in (3, 4) else text.replace("w49", "w1") for at, text in enumerate(TEXTS)]
    found = run(model, write(tmp_path / "a.csv", {"text": texts}), tmp_path / "out", batch=8)
    assert {key: row["error"] for key, row in found.items() if row["error"]} == dict.fromkeys(
        ("a.csv:3", "a.csv:4"), "the answer has NaN or infinity"
    )


def test_tokens_that_the_model_does_not_have(tmp_path: Path) -> None:
    model, wide = text_model(), tokenizer()
    known = model.config.vocab_size
    wide.add_tokens([f"more{number}" for number in range(known)])
    path = write(tmp_path / "a.csv", {"text": ["w1", f"more{known - 1}", "w2"]})
    found = run(model, path, tmp_path / "out", Texts(wide))
    assert found["a.csv:1"]["error"] == f"token {len(wide) - 1}, and the model has {known}"
    assert found["a.csv:0"]["error"] is found["a.csv:2"]["error"] is None


def test_lines_of_another_number_of_fields(model: Multiplex, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,w1 w2\n2,w1, w2\n3\n4,w3\n")
    found = run(model, tmp_path / "a.csv", tmp_path / "out", key="id")
    assert {key: row["error"] for key, row in found.items()} == {
        "1": None,
        "2": "3 fields, the header has 2",
        "3": "1 fields, the header has 2",
        "4": None,
    }


def test_a_part_of_bad_rows_has_the_columns_of_the_others(model: Multiplex, tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"text": ["", "", "w1", "w2"]})
    found = run(model, tmp_path / "a.jsonl", tmp_path / "out", part=2)
    assert len({pq.read_schema(part) for part in (tmp_path / "out").glob("part-*")}) == 1
    assert [row["logits"] is None for row in found.values()] == [True, True, False, False]


def test_a_model_that_answers_no_row_is_refused(model: Multiplex, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": [" ".join(["w1"] * 600)] * 3})
    with pytest.raises(MuxwrapError, match=r"none of 3 rows can be answered.*600 tokens.*see that the rows are made"):
        run(model, path, tmp_path / "out", Texts(tokenizer(), max_length=1000))
    assert not list((tmp_path / "out").glob("part-*"))


def test_groups_never_share_a_mixture(model: Multiplex, tmp_path: Path) -> None:
    tenants = [("a", "b", "c")[at % 3] for at in range(24)]
    columns = {"text": TEXTS, "tenant": tenants}
    wanted = run(model, write(tmp_path / "a.csv", columns), tmp_path / "one", group_by="tenant")
    together = run(model, tmp_path / "a.csv", tmp_path / "together")
    others = [text if tenant == "a" else "w5 " + text for text, tenant in zip(TEXTS, tenants, strict=True)]
    path = write(tmp_path / "x" / "a.csv", {"text": others, "tenant": tenants})
    found = run(model, path, tmp_path / "two", group_by="tenant")
    assert found["a.csv:1"]["logits"] != wanted["a.csv:1"]["logits"]
    of_a = [f"a.csv:{at}" for at in range(0, 24, 3)]
    same({key: found[key] for key in of_a}, {key: wanted[key] for key in of_a})
    assert together[of_a[0]]["logits"] != pytest.approx(wanted[of_a[0]]["logits"], abs=1e-4)


def test_a_row_of_no_group_is_answered_with_nobody(model: Multiplex, tmp_path: Path) -> None:
    write(tmp_path / "a.csv", {"text": ["w1", "w2", "w3"], "tenant": ["a", "", "a"]})
    found = run(model, tmp_path / "a.csv", tmp_path / "out", group_by="tenant")
    assert [row["error"] for row in found.values()] == [
        None,
        "no value in 'tenant', which tells the rows that may share a mixture",
        None,
    ]
