"""Install a wheel into empty environments, with each extra alone, and use what every extra is for.

    python tools/try_extras.py dist/muxwrap-*.whl
    python tools/try_extras.py dist/muxwrap-*.whl --only serve ray

Each environment runs ``tools/extras.py``, which says what an extra is for. PyTorch is installed once, into an environment
that the others read it from.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TOOLS = Path(__file__).parent
EXTRAS = ["", "hf", "timm", "vision", "plot", "demo", "hub", "serve", "predict", "ray"]
PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(TOOLS.parent / "constraints.txt")]


def main() -> int:
    """Try every extra; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--only", nargs="+", default=EXTRAS, choices=EXTRAS, metavar="EXTRA")
    parser.add_argument("--torch", type=Path, metavar="FOLDER", help="site-packages that have PyTorch, and little else")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        torch = options.torch or install(environment(Path(folder, "torch")), "torch")
        for extra in options.only:
            python = environment(Path(folder, extra or "none"), torch)
            install(python, f"{options.wheel.resolve()}{f'[{extra}]' if extra else ''}")
            work = Path(folder, "work", extra or "none")
            work.mkdir(parents=True)
            if extra in ("timm", "vision"):
                subprocess.run([python, TOOLS / "cure_torchvision.py"], check=True, stdout=subprocess.DEVNULL)
            status = subprocess.run([python, TOOLS / "extras.py", *filter(None, [extra])], cwd=work).returncode
            print(f"[{extra}]: {'works' if status == 0 else 'FAILED'}", flush=True)
            failed += [extra] * (status != 0)
    return bool(failed)


def environment(folder: Path, torch: Path | None = None) -> Path:
    """Make an environment that also reads the packages of a folder; return its Python."""
    venv.create(folder, with_pip=True)
    if torch is not None:
        (site_packages(folder) / "_torch.pth").write_text(f"{torch}\n")
    return folder / "bin" / "python"


def site_packages(folder: Path) -> Path:
    """Return where the packages of an environment are."""
    return next(folder.glob("lib/python*/site-packages"))


def install(python: Path, what: str) -> Path:
    """Install a requirement; return where it is."""
    subprocess.run([python, *PIP, what], check=True)
    return site_packages(python.parent.parent)


if __name__ == "__main__":
    sys.exit(main())
