"""The idx format."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

HEADER = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")


def test_packed_and_unpacked_files_are_read(tmp_path: Path) -> None:
    from benchmarks.idx import read_idx

    (tmp_path / "plain").write_bytes(HEADER + bytes(range(6)))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(HEADER + bytes(range(6))))
    for name in ("plain", "packed"):
        assert read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_other_files_are_refused(tmp_path: Path) -> None:
    from benchmarks.idx import read_idx

    with pytest.raises(FileNotFoundError, match=r"neither absent nor absent.gz is there"):
        read_idx(tmp_path / "absent")
    for content in (HEADER + bytes(5), b"\0\0\x0d" + HEADER[3:] + bytes(6), b"not idx"):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match="other is not an idx file of unsigned bytes"):
            read_idx(tmp_path / "other")


def test_the_demo_says_which_file_is_missing(tmp_path: Path) -> None:
    from benchmarks.demo.data import mnist_format

    with pytest.raises(SystemExit, match=r"--data .*: neither train-images-idx3-ubyte nor"):
        mnist_format(str(tmp_path))
