"""Every example runs, learns, and is an ordinary script with one line added."""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same_state

import muxwrap

for needed in ("sklearn", "timm", "torchvision", "transformers", "accelerate"):
    pytest.importorskip(needed)

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ["plain_pytorch", "timm_images", "torchvision_resnet", "huggingface_trainer", "huggingface_tokens"]
LINE = re.compile(r"^ +model = muxwrap\.wrap\(.*\)  # the one line\n", re.MULTILINE)

# The Trainer asks for pinned memory wherever it runs, and torch says that a CPU has none.
pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stdlib_text", sibling("stdlib_text"))  # as for a script that is started there
    torch.manual_seed(0)


def sibling(name: str) -> ModuleType:
    """Import a file that the examples share."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example(name: str, wrapped: bool = True) -> ModuleType:
    """Run an example's file as a module, with its one line or without it."""
    path = EXAMPLES / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    if not wrapped:
        source = LINE.sub("", source)
    module = ModuleType(f"example_{name}")
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def run(name: str, *arguments: str, wrapped: bool = True) -> dict[str, Any]:
    return example(name, wrapped).main([*arguments, "--quick"])


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("name", NAMES)
def test_muxwrap_is_one_line(name: str) -> None:
    source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(LINE.findall(source)) == 1
    assert re.findall(r"^.*\bmuxwrap\b.*$", LINE.sub("", source), re.MULTILINE) == ["import muxwrap"]
    assert len(source.splitlines()) <= 135


@pytest.mark.parametrize("name", ["plain_pytorch", "huggingface_tokens"])
def test_an_example_starts_from_anywhere(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick", "--epochs", "1"]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}  # muxwrap itself, where it is not installed
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout


@pytest.mark.parametrize("wrapped", [True, False], ids=["wrapped", "bare"])
def test_plain_pytorch(wrapped: bool) -> None:
    found = run("plain_pytorch", "--n", "3", wrapped=wrapped)
    assert isinstance(found["model"], muxwrap.Multiplex) == wrapped
    assert found["losses"][-1] < found["losses"][0]
    assert found["predictions"].shape == found["targets"].shape == (63,)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("test_resnet", []),
        ("test_resnet", ["--mixup", "0.5", "--amp", "--grad-checkpointing"]),
        ("test_vit", ["--img-size", "32", "--layer-decay", "0.7", "--grad-checkpointing"]),
    ],
    ids=["resnet", "resnet-mixup-amp", "vit"],
)
def test_timm_images(model: str, options: list[str], tmp_path: Path) -> None:
    options = ["--model", model, *options]
    found = run("timm_images", *options, "--output", str(tmp_path))
    assert found["losses"][1] < found["losses"][0]
    assert found["predictions"].shape == (39,)
    scales = {group.get("lr_scale", 1.0) for group in found["optimizer"].param_groups}
    assert (len(scales) > 2) == ("--layer-decay" in options)

    if "--mixup" in options:  # which draws from numpy's generator, and timm's checkpoints do not keep its state
        return
    resumed = run("timm_images", *options, "--resume", str(tmp_path / "checkpoint-0.pth.tar"))
    assert resumed["losses"] == found["losses"][1:]
    assert_same_state(resumed["model"], found["model"])
    assert_same_state(resumed["ema"], found["ema"])


@pytest.mark.parametrize("amp", [[], ["--amp"]], ids=["float32", "bfloat16"])
def test_torchvision_resnet(amp: list[str], tmp_path: Path) -> None:
    amp = [*amp, "--lr", "0.01"]  # at the script's own rate rounding decides whether eight steps end below their start
    found = run("torchvision_resnet", *amp, "--output-dir", str(tmp_path))
    assert found["losses"][1] < found["losses"][0]
    assert found["predictions"].shape == (39,)
    resumed = run("torchvision_resnet", *amp, "--resume", str(tmp_path / "model_0.pth"))
    assert resumed["losses"] == found["losses"][1:]
    assert_same_state(resumed["model"], found["model"])
    assert_same_state(resumed["ema"], found["ema"])


@pytest.mark.parametrize("name", ["timm_images", "torchvision_resnet"])
def test_image_scripts_are_the_bare_ones_without_the_line(name: str) -> None:
    found = run(name, "--epochs", "1", wrapped=False)
    assert not isinstance(found["model"], muxwrap.Multiplex)
    assert found["predictions"].shape == (39,)


def test_trainer_reads_the_files_of_sst2(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("dev", 9)):
        lines = [
            "sentence\tlabel",
            *(f'a "{word}" film {i}\t{i % 2}' for i, word in enumerate(["dull", "fine"] * count)),
        ]
        with gzip.open(tmp_path / f"{name}.tsv.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    found = run("huggingface_trainer", "--data", str(tmp_path), "--epochs", "1")
    assert len(found["trainer"].train_dataset) == 80 and found["predicted"].predictions.shape == (18, 2)
    assert found["trainer"].eval_dataset[1]["text"] == 'a "fine" film 1'
    assert "eval_loss" in found["metrics"]


def test_trainer_classifies_saves_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification, Trainer

    steps_made: list[int] = []
    step = Trainer.training_step

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        steps_made.append(self.state.global_step)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Trainer, "training_step", counted)
    options = ["--lr", "3e-3", "--batch-size", "4", "--epochs", "4", "--output", str(tmp_path)]
    first = run("huggingface_trainer", *options)
    assert steps_made == [*range(192)]  # four epochs of 192 rows, 4 in a step
    assert losses(first["trainer"])[-1] < 0.95 * losses(first["trainer"])[0]

    shutil.rmtree(tmp_path / "checkpoint-192")  # as if it had been stopped after the third epoch
    steps_made.clear()
    found = run("huggingface_trainer", *options, "--resume")
    assert steps_made == [*range(144, 192)]
    assert losses(found["trainer"]) == losses(first["trainer"])
    assert_same_state(found["model"], first["model"])

    trainer, predicted, metrics = found["trainer"], found["predicted"], found["metrics"]
    assert predicted.predictions.shape == (51, 2)
    logits, labels = torch.from_numpy(predicted.predictions), torch.from_numpy(predicted.label_ids)
    assert labels.tolist() == [row["label"] for row in trainer.eval_dataset]
    assert metrics["eval_loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), abs=1e-5)
    assert metrics["eval_accuracy"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())

    loaded = muxwrap.load(tmp_path, BertForSequenceClassification(found["model"].config)).eval()
    batch = next(iter(trainer.get_eval_dataloader())).to("cpu")
    batch.pop("labels")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, logits[:4])


def test_trainer_tags_tokens(tmp_path: Path) -> None:
    from transformers import BertForTokenClassification

    found = run("huggingface_tokens", "--output", str(tmp_path))
    trainer, predicted, metrics = found["trainer"], found["predicted"], found["metrics"]
    assert losses(trainer)[1] < losses(trainer)[0]
    logits, labels = torch.from_numpy(predicted.predictions), torch.from_numpy(predicted.label_ids)
    assert logits.shape == (*labels.shape, 4)
    for row, encoded in zip(labels.tolist(), trainer.eval_dataset, strict=True):
        assert [each for each in row if each != -100] == [each for each in encoded["labels"] if each != -100]
    # The Trainer weighs every batch's mean by its rows.
    batches = zip(logits.split(32), labels.split(32), strict=True)
    by_hand = sum(len(x) * F.cross_entropy(x.flatten(0, 1), y.flatten(), ignore_index=-100).item() for x, y in batches)
    assert metrics["eval_loss"] == pytest.approx(by_hand / 51, abs=1e-5)

    loaded = muxwrap.load(tmp_path, BertForTokenClassification(found["model"].config)).eval()
    batch = next(iter(trainer.get_eval_dataloader())).to("cpu")
    batch.pop("labels")
    with torch.no_grad():
        answer = loaded(**batch).logits
    torch.testing.assert_close(answer, logits[:32, : answer.shape[1]])


def test_a_trained_model_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run("convert", "--output", str(tmp_path))
    printed = capsys.readouterr().out
    assert "| as it is" in printed and f"{found['point'].name}: accuracy" in printed
    model, loaded, batch = found["model"], found["loaded"], found["batch"]
    assert found["point"].multiplexed and found["done"].steps == 4
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits
        assert torch.equal(loaded(**batch).logits, logits)
    assert logits.shape == (len(labels), 2)


@pytest.mark.parametrize("name", ["huggingface_trainer", "huggingface_tokens"])
def test_the_same_columns_reach_the_model(name: str) -> None:
    columns = {}
    for wrapped in (True, False):
        trainer = run(name, "--epochs", "1", wrapped=wrapped)["trainer"]
        assert isinstance(trainer.model, muxwrap.Multiplex) == wrapped
        assert "text" in trainer.train_dataset[0]
        columns[wrapped] = {key: value.shape for key, value in next(iter(trainer.get_eval_dataloader())).items()}
        assert trainer.label_names == ["labels"]
        columns[wrapped]["predictions"] = trainer.predict(trainer.eval_dataset).predictions.shape
    assert columns[True] == columns[False]
    assert {"input_ids", "attention_mask", "token_type_ids", "labels"} < columns[True].keys()
    assert "text" not in columns[True]
