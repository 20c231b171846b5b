"""What a class says of itself: the first paragraph of its docstring, and the sentence on its cost."""

from __future__ import annotations

import inspect
import re

ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")
COST = re.compile(r"Cost: (.+?\.)(?:\s|$)", re.DOTALL)


def summary(cls: type) -> str:
    """Return the first paragraph of a class's own docstring as one line; one that it inherits is of another class."""
    return _one_line(_own(cls).split("\n\n")[0])


def plain(text: str) -> str:
    """Return a line of a docstring without its marks, for a terminal: roles, code and emphasis."""
    return re.sub(r"\*(\w+)\*", r"\1", ROLE.sub(r"\1", text).replace("``", ""))


def cost(cls: type) -> str:
    """Return what the class's own docstring says after ``Cost:``, up to the first full stop, as one line."""
    found = COST.search(_own(cls))
    return _one_line(found[1]) if found else ""


def _own(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
