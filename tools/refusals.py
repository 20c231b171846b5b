"""The page of refusals: every error that muxwrap raises, as the tests meet it, with its way out.

    python -m pytest --refusals build/refusals
    python tools/refusals.py build/refusals

The first line runs the tests and records the errors; the second writes ``docs/refusals.md``. An error that no test meets is on
the page with dots for its values, and makes the second line fail. ``tests/test_refusals.py`` compares the page with the code.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "muxwrap"
PAGE = ROOT / "docs" / "refusals.md"
ERRORS = {"MuxwrapError", "RefusedAttributeError"}

ROOMS = {
    "building": "Wrapping",
    "wrapping": "Wrapping",
    "errors": "Wrapping",
    "registry": "Strategies and demuxers by name",
    "sites": "Finding sites",
    "_util": "Examples and named models",
    "_hooks": "Calling a wrapped model",
    "multiplex": "A wrapped model's attributes",
    "_model": "A wrapped model's attributes",
    "checkpoint": "Saving and loading",
    "loading": "Saving and loading",
    "_backbones": "Saving and loading",
    "_hub": "Saving and loading",
    "strategies": "Strategies",
    "demuxers": "Demuxers",
    "samplers": "Samplers",
    "training": "Training",
    "evaluation": "Evaluation",
    "inference": "Batch inference",
    "throughput": "Throughput",
    "frontiers": "The chart of a trained model",
    "published": "Published checkpoints",
    "theory": "Theory",
    "serving": "Serving",
    "_demo": "The demo",
}
"""Titles of the page by file or folder of the package, in the order of the page."""

HEAD = """\
# What is refused, and the way out

Every refusal is a `muxwrap.MuxwrapError`: it says what was asked, names the value and tells the way out, and bad input never
changes the model. This page lists them all, with the values of an example; `wrap` puts its own call before them. The page is
made from the tests, and a test fails if an error of the code is missing here. Dots stand for values that no test has.
"""


UNKNOWN = "…"
"""What stands for a value where no test meets an error."""


@dataclass(frozen=True)
class Refusal:
    """A place in the code where an error's message is made.

    Args:
        file: relative to the package.
        first: line of the statement.
        last: its last line.
        words: of its messages, in their order, with values between them.
        whole: whether a message begins and ends with them; those of a function may stand inside of another message.
    """

    file: str
    first: int
    last: int
    words: tuple[str, ...]
    whole: bool

    @property
    def title(self) -> str:
        """The part of the page where it belongs."""
        room = self.file.partition("/")[0].removesuffix(".py")
        return ROOMS.get(room, room)

    def made(self, message: str) -> bool:
        """Whether a message is one of these."""
        message, at = " ".join(message.split()), 0
        if self.whole and not (message.startswith(self.words[0]) and message.endswith(self.words[-1])):
            return False
        for words in self.words:
            found = message.find(words, at)
            if found < 0:
                return False
            at = found + len(words)
        return True


def refusals(package: Path = PACKAGE) -> list[Refusal]:
    """Return every place where a message of an error is made: in a ``raise``, or in a function that a ``raise`` asks."""
    found: list[Refusal] = []
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        for node, words, whole in _messages(ast.parse(path.read_text(encoding="utf-8"))):
            found.append(Refusal(file, node.lineno, node.end_lineno or node.lineno, words, whole))
    return found


def _messages(tree: ast.Module) -> Iterator[tuple[ast.stmt, tuple[str, ...], bool]]:
    """Yield the statements that make messages, their words and whether they are whole.

    What only puts the call before another error is none.
    """
    raises = [node for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    raises = [node for node in raises if _name(node.exc) in ERRORS]
    asked = {_name(node.exc.args[0]) for node in raises if isinstance(node.exc.args[0], ast.Call)}
    for node in raises:
        message = node.exc.args[0]
        if isinstance(message, _TEXT) and not _repeats(node, message):
            yield node, _fixed(message), True
    yield from _demanded(tree)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and (_may_explain(function) or function.name in asked):
            for part in ast.walk(function):
                if isinstance(part, ast.Return):
                    choices = (
                        (part.value.body, part.value.orelse) if isinstance(part.value, ast.IfExp) else (part.value,)
                    )
                    yield from (
                        (part, _fixed(text), False) for text in choices if isinstance(text, _TEXT) and _words(text)
                    )


def _demanded(tree: ast.Module) -> Iterator[tuple[ast.stmt, tuple[str, ...], bool]]:
    """Yield the statements that make a message for ``demand``, which raises it, or hands it to compiled code."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        texts = {
            ast.unparse(node.targets[0]): node
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and isinstance(node.value, _TEXT)
        }
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and _name(call) == "demand":
                made = texts[ast.unparse(call.args[1])]
                yield made, _fixed(made.value), True


_TEXT = (ast.JoinedStr, ast.Constant)


def _may_explain(function: ast.FunctionDef) -> bool:
    """Whether a function returns what is wrong, or None where nothing is."""
    return function.returns is not None and ast.unparse(function.returns) == "str | None"


def _repeats(node: ast.Raise, message: ast.expr) -> bool:
    """Whether an error puts the call before what another says."""
    if not isinstance(message, ast.JoinedStr) or node.cause is None:
        return False
    last = message.values[-1]
    return (
        isinstance(last, ast.FormattedValue)
        and ast.unparse(last.value) == ast.unparse(node.cause)
        and not _words(message)
    )


def _words(message: ast.expr) -> bool:
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    text = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return re.search(r"[a-z]+ [a-z]+", text) is not None


def _fixed(message: ast.expr) -> tuple[str, ...]:
    """Return what a message says whatever the values are: what is before, between and after them, white space as one."""
    parts = message.values if isinstance(message, ast.JoinedStr) else [message]
    marked = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
    return tuple(re.sub(r"\s+", " ", marked).split("\0"))


def _name(call: ast.expr) -> str:
    function = call.func if isinstance(call, ast.Call) else call
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


# -- the page ---------------------------------------------------------------------------------------------------------


def page(messages: dict[Refusal, str]) -> str:
    """Return the page with a message of every refusal."""
    lines = [HEAD]
    titles = list(dict.fromkeys([*ROOMS.values(), *(refusal.title for refusal in messages)]))
    for title in titles:
        entries = sorted({_entry(text) for refusal, text in messages.items() if refusal.title == title})
        if entries:
            lines += [f"## {title}\n", *entries, ""]
    return "\n".join(lines)


def _entry(message: str) -> str:
    what, way_out = split(" ".join(message.split()))
    return f"- {escaped(what)}" + (f"**{escaped(way_out)}**" if way_out else "")


def split(message: str) -> tuple[str, str]:
    """Return what a message says is wrong, with the sign after it, and the way out."""
    for sign in ("; ", ": "):
        what, found, way_out = message.partition(sign)
        if found:
            return what + sign, way_out
    return message, ""


_SIGNS = r"\\`*_{}\[\]#|"  # that Markdown reads


def escaped(text: str) -> str:
    """Return a text as Markdown that shows just this text."""
    return re.sub(f"([{_SIGNS}])", r"\\\1", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def listed(text: str) -> list[str]:
    """Return the messages on a page."""
    items = (item.replace("**", "") for item in re.findall(r"^- (.*)$", text, re.MULTILINE))
    plain = (item.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for item in items)
    return [re.sub(rf"\\([{_SIGNS}])", r"\1", item) for item in plain]


def main(folder: str) -> int:
    """Write the page from a record, and return 1 if an error is not in it."""
    met = [row for path in sorted(Path(folder).glob("*.json")) for row in json.loads(path.read_text())]
    messages: dict[Refusal, str] = {}
    missing = []
    for refusal in refusals():
        fitting = [cleaned(row["message"]) for row in met if refusal.made(row["message"])]
        if fitting:
            messages[refusal] = min(fitting, key=lambda text: (len(text), text))
        else:
            messages[refusal] = UNKNOWN.join(refusal.words)
            missing.append(f"muxwrap/{refusal.file}:{refusal.first} is met by no test")
    PAGE.write_text(page(messages), encoding="utf-8")
    print("\n".join([*missing, f"{PAGE.relative_to(ROOT)}: {len(messages)} refusals"]))
    return int(bool(missing))


def cleaned(message: str) -> str:
    """Return a message without what differs from machine to machine: folders of tests, addresses of objects."""
    message = re.sub(r"(/[\w.-]+)+/([\w.-]+)", r"folder/\2", message)
    return re.sub(r" at 0x[0-9a-f]+", "", message)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
