"""Names for strategies and demuxers: a dict, a decorator and a resolver.

Adding one is a class and a decorator in a file of its own; nothing else has to be edited.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

from torch import nn

from muxwrap._util.docstrings import plain, summary
from muxwrap.errors import MuxwrapError, known_names

T = TypeVar("T", bound=nn.Module)
C = TypeVar("C", bound=type[nn.Module])


class Registry(Generic[T]):
    """Classes of one kind by name.

    Args:
        kind: what messages call an entry, such as ``"strategy"``.
        base: the class that every entry subclasses.
    """

    def __init__(self, kind: str, base: type[T]) -> None:
        self.kind = kind
        self.base = base
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Return a class decorator that makes the class usable as ``name``.

        Raises:
            MuxwrapError: another class has the name already.
        """

        def add(cls: C) -> C:
            other = self._classes.get(name)
            # A module that is executed again (a notebook cell, a reload) may bring its own class once more.
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise MuxwrapError(
                    f"register({name!r}): the {self.kind} {other.__qualname__} has that name; choose another"
                )
            self._classes[name] = cls  # type: ignore[assignment]
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return add

    def names(self) -> list[str]:
        """Return every registered name, sorted."""
        return sorted(self._classes)

    def described(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return names, each with the line that the class's docstring begins with."""
        return [(name, plain(summary(self.get(name)))) for name in names]

    def get(self, name: str) -> type[T]:
        """Return the class called ``name``.

        Raises:
            MuxwrapError: there is none; the message names the near miss.
        """
        if name not in self._classes:
            raise MuxwrapError(f"unknown {self.kind} {name!r}; {known_names(name, self._classes)}")
        return self._classes[name]

    def class_of(self, choice: str | type[T] | partial[T]) -> type[T]:
        """Return the class that a name, a class or a ``functools.partial`` of one stands for.

        Raises:
            MuxwrapError: the name is unknown, or the choice is of another kind.
        """
        named = self.get(choice) if isinstance(choice, str) else choice
        cls = named.func if isinstance(named, partial) else named
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise MuxwrapError(
                f"{self.kind}={choice!r} is not a muxwrap.{self.base.__name__}; give a name, a subclass, a functools.partial "
                f"of one or an instance. {known_names('', self._classes)}"
            )
        return cls

    def build(self, choice: str | type[T] | partial[T] | T, **known: Any) -> T:
        """Make a module from a name, a class, a ``functools.partial`` of one, or take an instance as it is.

        Args:
            choice: what the user gave.
            **known: what the wrapped model knows (``n``, ``dim``, ...); a class takes those that its constructor names.
                What a ``partial`` already holds stays as the user set it.

        Raises:
            MuxwrapError: the name is unknown, or the choice is of another kind.
        """
        if isinstance(choice, self.base):
            return choice
        cls = self.class_of(choice)  # type: ignore[arg-type]
        make = choice if isinstance(choice, partial) else cls
        given = make.keywords if isinstance(make, partial) else {}
        wanted = inspect.signature(cls).parameters.keys() - given.keys()
        return make(**{key: value for key, value in known.items() if key in wanted})


FROM_MODEL = ("n", "dim", "seed", "strategy", "mux_dim")
"""Constructor arguments that come from the wrapped model and not from the user."""


def options_of(module: nn.Module, from_model: tuple[str, ...] = FROM_MODEL) -> dict[str, Any]:
    """Read a module's own options back from its attributes, for saving and printing.

    Every constructor argument is kept under its own name (the convention of scikit-learn's ``get_params``).

    Args:
        module: a strategy or a demuxer.
        from_model: arguments that are not options.

    Raises:
        MuxwrapError: an argument was not kept.
    """
    options = {}
    for key, parameter in inspect.signature(type(module)).parameters.items():
        if key in from_model or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if not hasattr(module, key):
            raise MuxwrapError(
                f"{type(module).__name__} takes {key}= and does not keep it; set self.{key} in its __init__, "
                "so that it can be saved and loaded"
            )
        options[key] = getattr(module, key)
    return options
