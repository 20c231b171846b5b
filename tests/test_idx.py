"""The images of the demo: the idx format, and folders that are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from muxwrap._demo.idx import read_idx
from muxwrap._demo.images import mnist_format
from muxwrap.errors import MuxwrapError

HEADER = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")


def test_packed_and_unpacked_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(HEADER + bytes(range(6)))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(HEADER + bytes(range(6))))
    for name in ("plain", "packed"):
        assert read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither absent nor absent.gz is there"):
        read_idx(tmp_path / "absent")
    for content in (HEADER + bytes(5), b"\0\0\x0d" + HEADER[3:] + bytes(6), b"not idx"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match="other is not an idx file of unsigned bytes"):
            read_idx(tmp_path / "other")


def folder(path: Path, images: tuple[int, ...], labels: list[int]) -> str:
    """Write a data set of blank images; the test images are the same."""
    for name in ("train", "t10k"):
        sizes = b"".join(size.to_bytes(4, "big") for size in images)
        blank = bytes(torch.Size(images).numel())
        (path / f"{name}-images-idx3-ubyte").write_bytes(b"\0\0\x08" + bytes([len(images)]) + sizes + blank)
        count = len(labels).to_bytes(4, "big")
        (path / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count + bytes(labels))
    return str(path)


def test_a_folder_says_how_many_classes_there_are(tmp_path: Path) -> None:
    found = mnist_format(folder(tmp_path, (3, 5, 5), [0, 12, 4]))
    assert (found.train_x.shape, found.train_y.tolist(), found.classes) == ((3, 1, 5, 5), [0, 12, 4], 13)
    assert found.first(2).test_y.tolist() == [0, 12] and found.first(None).test_y.tolist() == [0, 12, 4]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ((3, 5, 4), [0, 1, 2], r"images \[3, 5, 4\] and labels \[3\], not square"),
        ((3, 5, 5), [0, 1], r"images \[3, 5, 5\] and labels \[2\]"),
        ((0, 5, 5), [], r"images \[0, 5, 5\] and labels \[0\]"),
        ((3, 25), [0, 1, 2], r"images \[3, 25\]"),
    ],
)
def test_images_and_labels_have_to_fit(
    images: tuple[int, ...], labels: list[int], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MuxwrapError, match=rf"demo --data .*: train has {message}"):
        mnist_format(folder(tmp_path, images, labels))


def test_the_demo_says_which_file_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(
        MuxwrapError, match=r"demo --data .*: neither train-images-idx3-ubyte nor .*; give a folder with"
    ):
        mnist_format(str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(HEADER)[:-3])
    with pytest.raises(MuxwrapError, match=r"demo --data .*; give a folder with"):
        mnist_format(str(tmp_path))
