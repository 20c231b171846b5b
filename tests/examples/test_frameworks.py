"""The examples with other frameworks run, and what they promise holds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import ROOT, assert_same_state

import muxwrap

FOLDER = ROOT / "examples" / "frameworks"
SMALL = {"epochs": 1, "limit": 192}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """As for a script that is started in its folder, and leaves nothing behind."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in {*(path.stem for path in FOLDER.glob("*.py")), "stdlib_text"} - before:
        sys.modules.pop(name, None)


def example(name: str) -> ModuleType:
    return import_module(name)


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")
@pytest.mark.filterwarnings("ignore:The .* does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    module = example("lightning_digits")
    found = module.main(epochs=2, limit=192, folder=str(tmp_path))
    loaded, (x, y) = found["loaded"], found["test"]
    assert isinstance(loaded.model, muxwrap.Multiplex) and loaded.model.n == 2
    right = torch.cat([loaded(rows).argmax(1) == labels for rows, labels in zip(x.split(64), y.split(64), strict=True)])
    assert right.float().mean().item() == pytest.approx(found["best"].best_model_score.item())
    assert found["trainer"].current_epoch == 2
    assert len(found["trainer"].callbacks) >= 2


def test_accelerate(tmp_path: Path) -> None:
    module = example("accelerate_digits")
    found = module.main(**SMALL, folder=str(tmp_path))
    model, x = found["model"], found["test"][0][:5]
    loaded = muxwrap.load(tmp_path / "model", sys.modules["digits"].network()).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x))
        before = {key: value.clone() for key, value in model.state_dict().items()}
        for parameter in model.parameters():
            parameter.zero_()
    found["accelerator"].load_state(f"{tmp_path}/state")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_skorch() -> None:
    pytest.importorskip("skorch")
    found = example("skorch_digits").main(epochs=1, limit=400)
    search, probabilities = found["search"], found["probabilities"]
    assert sorted(each["module__n"] for each in search.cv_results_["params"]) == [2, 4]
    best = search.best_estimator_.module_
    assert isinstance(best, muxwrap.Multiplex) and best.n == search.best_params_["module__n"]
    assert probabilities.shape == (len(found["test"][0]), 10)
    torch.testing.assert_close(torch.from_numpy(probabilities).sum(1), torch.ones(len(probabilities)))


def test_torch_uncertainty() -> None:
    pytest.importorskip("torch_uncertainty")
    found = example("uncertainty_digits").main(**SMALL)
    members, (x, _) = found["members"], found["test"]
    assert members.shape == (2, len(x), 10)
    first, second = members.argmax(-1)
    assert found["disagreement"].item() == pytest.approx((first != second).float().mean().item())
    entropy = lambda p: torch.special.entr(p).sum(-1).mean()  # noqa: E731
    gained = entropy(members.mean(0)) - (entropy(members[0]) + entropy(members[1])) / 2
    assert found["mutual information"].item() == pytest.approx(gained.item(), abs=1e-5)


def test_sentence_transformers(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    found = example("sentence_embeddings").main(epochs=2, limit=64)
    model, texts = found["model"], found["texts"]
    wrapped = model[0].model
    assert isinstance(wrapped, muxwrap.Multiplex) and wrapped.shuffle and wrapped.demuxer.hide_index
    assert found["embeddings"].shape == (64, 64)
    assert found["losses"][-1] < found["losses"][0]
    model.save_pretrained(str(tmp_path))
    again = type(model)(str(tmp_path), device="cpu")
    again[0].model = muxwrap.load(tmp_path, again[0].model)
    assert_same_state(again, model)
    rows = {"batch_size": 32, "convert_to_tensor": True, "show_progress_bar": False}
    torch.testing.assert_close(again.encode(texts, **rows), found["embeddings"])
