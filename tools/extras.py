"""What each extra is for, tried in the environment and the folder that this runs in.

    python tools/extras.py [EXTRA]

With an extra, that extra has to do its work. Without one, every extra has to be asked for by its name.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import torch
from torch import nn

import muxwrap

MUXWRAP = str(Path(sys.executable).with_name("muxwrap"))
# The head of a bitmap of 2 x 2 pixels in RGB.
BITMAP = b"BM" + struct.pack("<IIIIiiHHIIiiII", 70, 0, 54, 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)
REPOSITORY = "from muxwrap import from_pretrained; from_pretrained('nobody/nothing')"


def make() -> nn.Module:
    """Make a small model; commands name it ``extras:make``."""
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))


def wrapped() -> muxwrap.Multiplex:
    """Return it multiplexed."""
    return muxwrap.wrap(make(), 2, example_input=torch.zeros(1, 12)).eval()


def command(*words: str, status: int = 0) -> str:
    """Run a command of muxwrap, or Python code, and return what it says."""
    start = [sys.executable] if words[0] == "-c" else [MUXWRAP]
    done = subprocess.run([*start, *words], capture_output=True, text=True)
    told = done.stdout + done.stderr
    assert done.returncode == status, f"{words} ended with {done.returncode}:\n{told}"
    assert status or "Warning" not in told, f"{words} warns:\n{told}"
    return told


def saved_and_loaded(model: muxwrap.Multiplex, *args: torch.Tensor) -> None:
    """Save a model and load it without its backbone."""
    model.eval().save_pretrained("saved")
    again = muxwrap.from_pretrained("saved").eval()
    first, second = model(*args), again(*args)
    torch.testing.assert_close(getattr(first, "logits", first), getattr(second, "logits", second))


def nothing() -> None:
    model, x = wrapped(), torch.randn(5, 12)
    model.save_pretrained("model")
    assert torch.equal(muxwrap.load("model", make())(x), model(x))
    assert "serve" in command("--help") and "hadamard" in command("list")
    assert "trunk" in command("inspect", "extras:make", "--shape", "12")
    assert "instances/s" in command("bench", "extras:make", "--shape", "12", "-n", "2", "--rounds", "1")


def hf() -> None:
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = muxwrap.wrap(BertForSequenceClassification(BertConfig(vocab_size=50, **sizes)), 2)
    rows = [{"input_ids": torch.arange(8) + at, "labels": at % 2} for at in range(8)]
    Trainer(model, TrainingArguments("trained", max_steps=2, report_to=[], use_cpu=True), train_dataset=rows).train()
    saved_and_loaded(model, torch.stack([row["input_ids"] for row in rows]))
    assert "trunk" in command("inspect", "transformers:bert")


def timm() -> None:
    import timm

    saved_and_loaded(muxwrap.wrap(timm.create_model("resnet18", num_classes=5), 2), torch.randn(3, 3, 64, 64))
    assert "trunk" in command("inspect", "timm:resnet18")


def vision() -> None:
    import torchvision

    saved_and_loaded(muxwrap.wrap(torchvision.models.resnet18(num_classes=5), 2), torch.randn(3, 3, 64, 64))
    assert "trunk" in command("inspect", "torchvision:resnet18")


def plot() -> None:
    command("bench", "extras:make", "--shape", "12", "-n", "2", "--rounds", "1", "--plot", "speed.png")
    assert Path("speed.png").read_bytes().startswith(b"\x89PNG")


def demo() -> None:
    assert "n=2" in command("demo", "-n", "2", "--epochs", "1", "--limit", "64")


def hub() -> None:
    told = command("-c", f"import os; os.environ['HF_HUB_OFFLINE'] = '1'; {REPOSITORY}", status=1)
    assert "MuxwrapError" in told and "muxwrap[hub]" not in told, told


def serve() -> None:
    wrapped().save_pretrained("model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "serve",
        "model",
        "--backbone",
        "extras:make",
        "--shape",
        "12",
        "--port",
        str(port),
        "--log-level",
        "error",
    ]
    with subprocess.Popen([MUXWRAP, *words]) as server:
        try:
            row = torch.randn(12)
            body = json.dumps({"input": row.tolist()}).encode()
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/predict", body, {"Content-Type": "application/json"}
            )
            answer = json.loads(answered(request, server))
            expected = muxwrap.load("model", make()).eval()(row[None])[0]
            torch.testing.assert_close(torch.tensor(answer["output"]), expected, rtol=1e-4, atol=1e-5)
        finally:
            server.terminate()


def answered(request: urllib.request.Request, server: subprocess.Popen) -> bytes:
    """Ask until the server is there."""
    for _ in range(240):
        try:
            return urllib.request.urlopen(request, timeout=30).read()
        except OSError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.5)
    raise AssertionError("no answer in two minutes")


def predict(out: str = "answers", **options: object) -> None:
    Path("images").mkdir(exist_ok=True)
    for at in range(6):
        Path(f"images/{at}.bmp").write_bytes(BITMAP + bytes([40 * at] * 16))
    images = muxwrap.inference.Images(in_numbers)
    done = muxwrap.inference.predict(wrapped(), "images", out, images, part=3, progress=False, **options)
    assert done.rows == 6 and done.errors == 0 and list(Path(out).glob("*.parquet")), done


def in_numbers(image: object) -> torch.Tensor:
    """Return an image of 2 x 2 as a vector."""
    return torch.tensor(list(image.tobytes())) / 255


def ray() -> None:
    predict("answers-ray", ray=True, workers=1)


# What an extra does, and the words that need it.
MODEL = ["--backbone", "extras:make", "--shape", "12"]
EXTRAS = {
    "hf": (hf, ["inspect", "transformers:bert"]),
    "timm": (timm, ["inspect", "timm:resnet18"]),
    "vision": (vision, ["inspect", "torchvision:resnet18"]),
    "plot": (plot, ["bench", "extras:make", "--shape", "12", "--plot", "speed.png"]),
    "demo": (demo, ["demo"]),
    "hub": (hub, ["-c", REPOSITORY]),
    "serve": (serve, ["serve", "model", *MODEL]),
    "predict": (predict, ["-c", "import extras; extras.predict()"]),
    "ray": (ray, ["-c", "import extras; extras.ray()"]),
}


def main() -> None:
    """Try the extra; without one, what needs none, and that every extra is asked for by its name."""
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where commands find this file
    if len(sys.argv) > 1:
        EXTRAS[sys.argv[1]][0]()
        return
    nothing()
    for extra, (_, words) in EXTRAS.items():
        told = command(*words, status=1 if words[0] == "-c" else 2)
        wanted = "predict" if extra == "ray" else extra  # which asks for what it brings along
        assert f"pip install 'muxwrap[{wanted}]'" in told, told


if __name__ == "__main__":
    main()
