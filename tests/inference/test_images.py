"""Image files and tables of images."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nets
import pytest
import torch
from batch_jobs import answers, write
from PIL import Image
from torch import Tensor

import muxwrap
from muxwrap import Multiplex, MuxwrapError
from muxwrap.inference import Images, predict


def to_tensor(image: Image.Image) -> Tensor:
    """Two channels, as the network takes them."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1)[:2] / 255


def randomly(image: Image.Image) -> Tensor:
    return to_tensor(image) + torch.rand(())


def darkened(image: Image.Image) -> Tensor:
    return to_tensor(image).log()  # -inf where it is black


def picture(number: int, size: tuple[int, int] = (6, 6)) -> Image.Image:
    pixels = torch.randint(1, 256, (*size[::-1], 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
    return Image.frombytes("RGB", size, bytes(pixels.flatten().tolist()))


def encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def model() -> Multiplex:
    return muxwrap.wrap(nets.make("cnn"), 2, example_input=nets.batch("cnn", 1)).eval()


def run(model: Multiplex, inputs: Any, out: Path, encoder: Images | None = None, **options: Any) -> dict[str, Any]:
    predict(model, inputs, out, encoder or Images(to_tensor), progress=False, **options)
    return answers(out)


def test_a_folder_of_images(model: Multiplex, tmp_path: Path) -> None:
    for number in range(5):
        path = tmp_path / "data" / ("cat" if number % 2 else "dog") / f"{number}.PNG"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    (tmp_path / "data" / "cat" / "0.jpg").write_bytes(b"not an image")
    (tmp_path / "data" / "dog" / "1.png").write_bytes(encoded(picture(9))[:80])
    found = run(model, tmp_path / "data", tmp_path / "out")
    assert list(found) == ["cat/0.jpg", "cat/1.PNG", "cat/3.PNG", "dog/0.PNG", "dog/1.png", "dog/2.PNG", "dog/4.PNG"]
    for broken in ("cat/0.jpg", "dog/1.png"):
        bad = found.pop(broken)
        assert bad["error"].startswith("the image cannot be read: ") and bad["answer"] is None
        assert "0x" not in bad["error"] and str(tmp_path) not in bad["error"]
    images = torch.stack([to_tensor(picture(int(key[4]))) for key in found])
    with torch.no_grad():
        wanted = torch.cat([model(images[:2]), model(images[2:4]), model(torch.stack([images[4], images[3]]))[:1]])
    torch.testing.assert_close(torch.tensor([row["answer"] for row in found.values()]), wanted)


def test_images_of_different_shapes_are_in_different_batches(model: Multiplex, tmp_path: Path) -> None:
    sizes = [(6, 6), (8, 6), (6, 6), (8, 6), (8, 6)]
    images = [picture(number, size) for number, size in enumerate(sizes)]
    found = run(model, write(tmp_path / "a.parquet", {"image": list(map(encoded, images))}), tmp_path / "out")
    assert {row["error"] for row in found.values()} == {None}
    with torch.no_grad():
        wanted = model(torch.stack([to_tensor(images[0]), to_tensor(images[2])]))
    torch.testing.assert_close(torch.tensor([found["a.parquet:0"]["answer"], found["a.parquet:2"]["answer"]]), wanted)


def test_a_table_holds_bytes_or_paths(model: Multiplex, tmp_path: Path) -> None:
    images = [picture(number) for number in range(3)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number}.png")
    files = list(map(encoded, images))
    tables = [
        write(tmp_path / "bytes.parquet", {"image": files}),
        write(tmp_path / "paths.csv", {"image": [f"{number}.png" for number in range(3)]}),
        write(tmp_path / "both.parquet", {"image": [{"bytes": each, "path": None} for each in files]}),
    ]
    found = [list(run(model, table, tmp_path / f"out{at}").values()) for at, table in enumerate(tables)]
    logits = [[row["answer"] for row in rows] for rows in found]
    assert logits[0] == logits[1] == logits[2]


def test_rows_without_an_image(model: Multiplex, tmp_path: Path) -> None:
    black = Image.new("RGB", (6, 6))
    (tmp_path / "a.jsonl").write_text('{"image": "good.png"}\n{"image": null}\n{"image": 3}\n{"image": "no.png"}\n')
    picture(0).save(tmp_path / "good.png")
    found = run(model, tmp_path / "a.jsonl", tmp_path / "out")
    assert [row["error"] for row in found.values()] == [
        None,
        "no image in 'image'",
        "a int in 'image', not bytes or a path",
        "the image cannot be read: FileNotFoundError: [Errno 2] No such file or directory:",
    ]
    black.save(tmp_path / "black.png")
    found = run(model, [tmp_path / "black.png", tmp_path / "good.png"], tmp_path / "dark", Images(darkened))
    assert [row["error"] for row in found.values()] == ["the image has NaN or infinity", None]
    with pytest.raises(MuxwrapError, match="none of"):
        run(model, tmp_path / "good.png", tmp_path / "other", Images(lambda image: to_tensor(image)[:1]))
    found = run(model, tmp_path / "good.png", tmp_path / "nothing", Images(lambda image: None))
    assert found["good.png"]["error"] == "transform returned a NoneType, not a tensor"


def test_a_random_transform_is_refused(model: Multiplex, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(MuxwrapError, match=r"different inputs the second time; take out what is random"):
        run(model, tmp_path / "a.png", tmp_path / "out", Images(randomly))
    assert not (tmp_path / "out").exists()


def test_another_transform_does_not_end_a_run(model: Multiplex, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    run(model, tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(MuxwrapError, match="begun with encoder"):
        run(model, tmp_path / "a.png", tmp_path / "out", Images(darkened))
