"""The page of refusals has every error of the code, as it is said today, and each tells the way out."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from helpers import ROOT


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("refusals", ROOT / "tools" / "refusals.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module there
    spec.loader.exec_module(module)
    return module


tool = load()
REFUSALS = tool.refusals()
LISTED = tool.listed(tool.PAGE.read_text(encoding="utf-8"))


def test_every_refusal_of_the_code_is_on_the_page() -> None:
    missing = [f"{r.file}:{r.first}" for r in REFUSALS if not any(r.made(message) for message in LISTED)]
    assert not missing, f"{tool.__doc__}"


def test_every_refusal_on_the_page_is_one_of_the_code() -> None:
    assert len(LISTED) > 150
    assert not [message for message in LISTED if not any(refusal.made(message) for refusal in REFUSALS)]


def test_every_refusal_tells_the_way_out() -> None:
    assert not [message for message in LISTED if not tool.split(message)[1] and tool.UNKNOWN not in message]


def test_a_test_meets_every_refusal() -> None:
    assert not [message for message in LISTED if tool.UNKNOWN in message]


def test_refusals_are_found_in_code(tmp_path: Path) -> None:
    (tmp_path / "room.py").write_text(
        "def one(n):\n"
        "    raise MuxwrapError(f'n={n!r} is odd; '\n        'give an even n')\n"
        "def two(n):\n"
        "    try:\n        one(n)\n"
        "    except MuxwrapError as error:\n        raise MuxwrapError(f'two({n}): {error}') from error\n"
        "def three(n) -> str | None:\n    return f'{n} is too large; make it smaller' if n else None\n"
        "def four(n):\n    raise MuxwrapError(five(n))\n"
        "def five(n) -> str:\n    return f'five is {n} short; give more'\n"
        "def other():\n    raise ValueError('not one of ours')\n"
        "def six(n):\n    problem = f'rows {n} differ; give rows that agree'\n    demand(n == 6, problem)\n"
    )
    found = tool.refusals(tmp_path)
    assert [(refusal.first, refusal.last) for refusal in found] == [(2, 3), (18, 18), (10, 10), (14, 14)]
    assert found[0].made("n=3 is odd; give an even n")
    assert not found[0].made("n=3 is odd; give another n")
    assert found[1].made("rows 7 differ; give rows that agree")
    assert found[2].made("7 is too large; make it smaller")
    assert found[3].made("load('x'): five is 2 short; give more")


def test_a_message_on_the_page_is_read_as_it_was_written() -> None:
    message = "wrap(x_y, **n**=`2`, a|b, <c>, [d], back\\slash): no; name mux_at='layer.*' & others"
    entry = tool._entry(message)
    assert entry.endswith("**")
    assert tool.listed(f"# Title\n\n{entry}\n") == [message]
