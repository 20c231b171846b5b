"""What ``import muxwrap`` gives, in a process that imports nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import muxwrap

USED = {
    "demuxers": "MLP",
    "evaluation": "crosstalk",
    "frontiers": "register_rival",
    "inference": "predict",
    "published": "load",
    "samplers": "LengthBatches",
    "serving": "server",
    "strategies": "Slots",
    "theory": "multiplexed",
    "throughput": "measure",
    "training": "start_apart",
}


def test_subpackages_are_imported_at_their_first_use() -> None:
    late = [name for name in USED if name not in ("demuxers", "strategies")]  # which wrap itself needs
    used = "\n".join(f"muxwrap.{name}.{member}" for name, member in USED.items())
    code = f"import sys, muxwrap\nassert not [n for n in {late} if f'muxwrap.{{n}}' in sys.modules]\n{used}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_compiler_of_pytorch_is_not_imported() -> None:
    code = (
        "import sys, muxwrap\nmuxwrap.wrap, muxwrap.load, muxwrap.demuxers\nassert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_subpackages_are_listed() -> None:
    assert {*USED, *muxwrap.__all__} <= set(dir(muxwrap))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="'muxwrap' has no attribute 'trainig'"):
        muxwrap.trainig  # noqa: B018
