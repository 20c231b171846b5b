"""What holds for every command: help, version, exit status, completion, and that help needs no torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from helpers import ROOT

import muxwrap
from muxwrap.cli import _options
from muxwrap.cli import app as module
from muxwrap.cli.app import app, main

COMMANDS: dict[str, Callable[..., object]] = {
    command.name or command.callback.__name__: command.callback
    for command in app.registered_commands
    if command.callback is not None
}
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
SHELL = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples(text: str) -> list[str]:
    """Return the commands in a text, without what a shell makes of the rest of a line."""
    lines = (line.strip().removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines())
    return [re.split(r" [|>#&]", line)[0] for line in lines if line.startswith("muxwrap ")]


def parse(line: str) -> None:
    """Read a command's words as the command line does, without running it."""
    name, *words = line.split()[1:]
    group = typer.main.get_command(app)
    if name.startswith("-"):
        return
    assert name in COMMANDS, line
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words).close()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_examples_that_parse(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = examples(COMMANDS[name].__doc__ or "")
    assert len(found) >= 2 and all(line.split()[1] == name for line in found)
    for line in found:
        parse(line)
    monkeypatch.setenv("COLUMNS", "200")
    assert main([name, "--help"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert all(any(each.startswith(line) for each in shown) for line in found)


def test_commands_on_the_pages_parse() -> None:
    lines = [line for page in PAGES for block in SHELL.findall(page.read_text()) for line in examples(block)]
    assert len(lines) > 5
    for line in lines:
        parse(line)


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"{muxwrap.__version__}\n"
    assert main([]) == 2
    shown = capsys.readouterr()
    assert all(name in shown.out + shown.err for name in COMMANDS)


def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lits"]) == 2
    assert "list" in capsys.readouterr().err
    assert main(["inspect"]) == 2
    assert "MODEL" in capsys.readouterr().err


def test_a_refusal_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "resnet18"]) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("muxwrap: 'resnet18' is not") and len(shown.err.splitlines()) == 1


def test_a_failure_is_status_1() -> None:
    code = "import sys; from muxwrap.cli import main, app; sys.exit(main())"
    broken = "import muxwrap._util.named_models as made; made.model_named = lambda name: 1 / 0;"
    done = subprocess.run(
        [sys.executable, "-c", broken + code, "inspect", "timm:test_vit"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ZeroDivisionError")


def test_an_interrupt_is_not_success(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("muxwrap._util.named_models.model_named", stopped)
    assert main(["inspect", "timm:test_vit"]) not in (0, 2)


def test_help_needs_no_torch() -> None:
    code = "import sys; from muxwrap.cli import main; status = main([*sys.argv[1:], '--help'])"
    heavy = "assert not {'torch', 'numpy'} & set(sys.modules); sys.exit(status)"
    for words in ([], *([name] for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}; {heavy}", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def completed(words: str) -> str:
    """Return what bash is given to complete with after these words."""
    environment = {
        **os.environ,
        "_MUXWRAP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = subprocess.run(
        [sys.executable, "-m", "muxwrap"], env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_the_shell_completes_commands_and_names() -> None:
    assert set(completed("muxwrap ").split()) == set(COMMANDS)
    assert completed("muxwrap inspect timm:x --strategy ha").split() == ["hadamard"]
    assert [name for name, _ in _options._demuxers("ml")] == ["mlp"]


def test_every_command_has_a_file_of_its_own() -> None:
    files = {path.stem for path in (ROOT / "muxwrap" / "cli").glob("[a-z]*.py")} - {"app"}
    assert files == set(COMMANDS)
    assert module.main is main
