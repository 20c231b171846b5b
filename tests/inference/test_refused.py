"""What cannot be answered is refused before anything is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nets
import pytest
from batch_jobs import sentences, text_model, tokenizer, write

import muxwrap
from muxwrap import Multiplex, MuxwrapError
from muxwrap.inference import Texts, predict
from muxwrap.inference.formats import read
from muxwrap.inference.manifest import MANIFEST
from muxwrap.inference.rows import Cut, File


@pytest.fixture(scope="module")
def model() -> Multiplex:
    return text_model()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of tables; the tests spoil one."""
    folder = tmp_path / "data"
    write(folder / "a.csv", {"id": [1, 2, 3], "text": sentences(3)})
    write(folder / "b.parquet", {"id": [4, 5, 6], "text": sentences(3)})
    write(folder / "c.jsonl", {"id": [7, 8, 9], "text": sentences(3)})
    return folder


def refused(message: str, model: Any, inputs: Any, out: Path, encoder: Any = None, **options: Any) -> None:
    before = sorted(out.parent.rglob("*"))
    with pytest.raises(MuxwrapError, match=message):
        predict(model, inputs, out, encoder or Texts(tokenizer()), progress=False, **options)
    assert sorted(out.parent.rglob("*")) == before


def test_arguments(model: Multiplex, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(r"predict\(BertFor.*not a wrapped model", model.backbone, data, out)
    refused(r"predict\(batch=5\): not a multiple of n=2.*give 6", model, data, out, batch=5)
    for name in ("batch", "part", "workers"):
        refused(rf"predict\({name}=0\): not a count; give an int", model, data, out, **{name: 0})
    refused(r"predict\(part=True\)", model, data, out, part=True)
    refused(r"predict\(workers=2\): one process.*give ray=True", model, data, out, workers=2)
    tagger = muxwrap.wrap(nets.make("tagger"), 2, example_input=nets.batch("tagger", 1))
    refused(r"predict\(Tagger\): its forward takes ids and no input_ids; wrap a model", tagger, data, out)
    with pytest.raises(MuxwrapError, match=r"Texts\(columns=\('a', 'b', 'c'\)\).*name one or two columns"):
        Texts(tokenizer(), ("a", "b", "c"))


def test_inputs(model: Multiplex, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (data / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    refused(r"inputs=\[\]\): there is no input; give files or folders", model, [], out)
    refused(r"nothing is not there; give files", model, tmp_path / "nothing", out)
    refused(
        r"notes.txt has no ending that tells its format; known endings: .parquet, .csv", model, data / "notes.txt", out
    )
    refused(r"there is no file to read in .*empty; known endings", model, tmp_path / "empty", out)
    refused(r"a.csv is among the inputs twice; name it, or its folder, once", model, [data / "a.csv", data], out)
    refused(r"it lies in an input; give a folder outside of", model, data, data / "answers")
    (tmp_path / "nobody.csv").write_text("text\n")
    refused(r"the inputs hold no row; give files that do", model, tmp_path / "nobody.csv", out)


def test_columns_and_keys(model: Multiplex, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for each in ("a.csv", "b.parquet", "c.jsonl"):
        path = data / each
        refused(
            rf"{each} has no column 'txt'; name another.*did you mean 'text'",
            model,
            path,
            out,
            Texts(tokenizer(), "txt"),
        )
        refused(rf"{each} has no column 'tenant'", model, path, out, group_by="tenant")
    (tmp_path / "twice.csv").write_text("text,text\nw1,w2\n")
    refused(r"twice.csv has two columns 'text'; name another", model, tmp_path / "twice.csv", out)
    write(data / "d.csv", {"id": [10, 2], "text": ["w1", "w2"]})
    refused(
        r"predict\(key='id'\): '2' is the key of row 1 of .*d.csv and of an earlier row; name a",
        model,
        data,
        out,
        key="id",
    )
    write(data / "d.csv", {"id": [10, ""], "text": ["w1", "w2"]})
    refused(r"predict\(key='id'\): row 1 of .*d.csv has no key; fill the column", model, data, out, key="id")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("z.parquet", b"PAR1 and no more"),
        ("z.csv", b"id,text\n1,w1 \xff\n"),
        ("z.csv", b'id,text\n1,"w1\n'),
        ("z.jsonl", b'{"id": 1, "text": "\xff"}\n'),
    ],
)
def test_files_that_cannot_be_read(model: Multiplex, data: Path, tmp_path: Path, name: str, content: bytes) -> None:
    (data / name).write_bytes(content)
    refused(rf"{name} cannot be read \(\w+: .*\); repair it, or leave it out", model, data, tmp_path / "out")


def test_folders_of_others(model: Multiplex, data: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    refused(r"full'\): it holds files of others; give a new folder", model, data, tmp_path / "full")
    (tmp_path / "file").write_text("x")
    refused(r"file'\): it holds files of others", model, data, tmp_path / "file")
    out = tmp_path / "out"
    predict(model, data, out, Texts(tokenizer()), progress=False)
    later = {**json.loads((out / MANIFEST).read_text()), "format": 9, "muxwrap": "7.0"}
    (out / MANIFEST).write_text(json.dumps(later))
    refused(r"begun by muxwrap 7.0 in format 9; end it with that version, or give another out=", model, data, out)


def test_a_file_that_has_changed(data: Path) -> None:
    with pytest.raises(MuxwrapError, match=r"a.csv has fewer rows than when it was first read; leave the inputs"):
        read(Cut(File(data / "a.csv", "a.csv"), 0, 4, 0), ["text"])


def test_missing_libraries(model: Multiplex, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(r"predict: pyarrow is not installed; pip install 'muxwrap\[predict\]'", model, data, tmp_path / "out")
