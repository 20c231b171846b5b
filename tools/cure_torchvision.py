"""Make torchvision importable next to a CPU build of PyTorch.

The torchvision wheel that matches a PyTorch release may be linked against the
CUDA build of PyTorch. Beside a CPU build its compiled extension cannot load, and
``import torchvision`` then stops with ``operator torchvision::nms does not
exist``, although models and transforms need nothing from that extension.

This script, run with an environment's own Python, tests the import. Where it
fails in exactly that way, it writes two files into the environment's
site-packages:

* ``_torchvision_cpu_ops.py``, an import hook that declares the missing operators
  while torchvision is being imported (and only where they are missing);
* ``_torchvision_cpu_ops.pth``, which installs the hook when Python starts. It
  imports neither PyTorch nor torchvision, so start-up stays fast.

Where the import already works it changes nothing. Run it as often as you like.
It is a tool for development environments and no part of the library.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

SYMPTOM = "operator torchvision::nms does not exist"
NAME = "_torchvision_cpu_ops"

HOOK = '''\
"""Declares torchvision's operators where its compiled extension cannot load.

Written by tools/cure_torchvision.py; remove it together with the .pth file of
the same name to undo.
"""

import sys

# torchvision imports this module right after it has tried to load its compiled
# extension, and it is the first one that needs the operators to exist.
_TARGET = "torchvision._meta_registrations"
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept_alive = []


class _Finder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname == _TARGET:
            if cls in sys.meta_path:
                sys.meta_path.remove(cls)
            _declare()
        return None


def _declare():
    import torch

    missing = [name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "DEF")
        for name in missing:
            library.define(name + _SCHEMA)
        _kept_alive.append(library)


sys.meta_path.insert(0, _Finder)
'''

IMPORT_CHECK = "import torchvision"
FULL_CHECK = """\
import importlib.util
import torch, torchvision
model = torchvision.models.resnet18(weights=None).eval()
with torch.inference_mode():
    shape = tuple(model(torch.zeros(1, 3, 64, 64)).shape)
assert shape == (1, 1000), shape
if importlib.util.find_spec("timm") is not None:
    import timm
"""


def run(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a fresh interpreter of this environment."""
    return subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def report(what: str, result: "subprocess.CompletedProcess[str]") -> int:
    """Print why a check failed and return the exit status for it."""
    tail = "\n".join(result.stderr.strip().splitlines()[-8:])
    print(f"cure_torchvision: {what} failed (exit status {result.returncode}):\n{tail}", file=sys.stderr)
    return 1


def write(path: Path, text: str) -> None:
    """Write a file unless it already holds this text."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main() -> int:
    """Test the import, cure it where needed, test again; return the exit status."""
    site = Path(sysconfig.get_path("purelib"))
    result = run(IMPORT_CHECK)
    cured = False
    if result.returncode != 0:
        if SYMPTOM not in result.stderr:
            return report(IMPORT_CHECK, result)
        write(site / f"{NAME}.py", HOOK)
        write(site / f"{NAME}.pth", f"import {NAME}\n")
        cured = True
    result = run(FULL_CHECK)
    if result.returncode != 0:
        return report("the check of torchvision and timm", result)
    print("cure_torchvision: " + ("torchvision works now" if cured else "torchvision works, nothing to do"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
