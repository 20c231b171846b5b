"""``muxwrap serve``: what it makes of its words. The server itself is tested in ``tests/serving``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from served import bert, model, tokenizer
from typer.testing import CliRunner

from muxwrap.cli.serve import serve
from muxwrap.errors import MuxwrapError
from muxwrap.serving.lit import Server


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(serve)
    return made


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Server, dict[str, Any]]]:
    """The servers that would run."""
    found: list[tuple[Server, dict[str, Any]]] = []
    monkeypatch.setattr(Server, "run", lambda self, **options: found.append((self, options)))
    return found


def test_a_folder_with_a_tokenizer(app: typer.Typer, ran: list[Any], tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    words = [
        str(tmp_path),
        "--port",
        "0",
        "--n-min",
        "2",
        "--max-wait-ms",
        "5",
        "--max-queue",
        "9",
        "--max-length",
        "7",
    ]
    done = CliRunner().invoke(app, [*words, "--timeout", "3", "--mixtures", "2", "--max-body", "1000"])
    assert done.exit_code == 0, done.exception
    ((server, options),) = ran
    groups = server.groups
    assert options == {"host": "127.0.0.1", "port": 0, "log_level": "info"}
    assert (groups.sizes, groups.mixtures, groups.max_wait, groups.max_queue, groups.timeout) == (
        [2, 4],
        2,
        0.005,
        9,
        3,
    )
    assert (server.service.inputs.max_length, server.service.max_body) == (7, 1000)


def test_numbers_of_a_network_of_one_s_own(app: typer.Typer, ran: list[Any], tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    words = [str(tmp_path), "--backbone", "nets:MLP", "--shape", "12", "--range", "-5", "5", "--host", "0.0.0.0"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    ((server, options),) = ran
    assert options["host"] == "0.0.0.0" and server.service.inputs.within == (-5, 5)


def test_help_has_examples(app: typer.Typer) -> None:
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    assert "muxwrap serve model --port 8000" in shown and "--max-wait-ms" in shown


def test_a_folder_that_is_none(app: typer.Typer, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, [str(tmp_path / "none")]).exception
    assert isinstance(found, MuxwrapError) and "no folder there; give one that save_pretrained wrote" in str(found)
