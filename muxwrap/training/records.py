"""What a warm-up notes on its way, shows, and stops at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from muxwrap.training.distributed import rank


@dataclass(frozen=True)
class Record:
    """One measurement.

    Args:
        step: steps made by then.
        loss: mean over the steps since the record before, in nats a token.
        accuracy: share of the drawn training tokens that were named right in these steps.
        held_out: retrieval accuracy on held-out sequences; None if there are none.
        per_index: the same for every index.
    """

    step: int
    loss: float
    accuracy: float
    held_out: float | None = None
    per_index: tuple[float, ...] | None = None

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Record:
        """Return what ``dataclasses.asdict`` made of a record."""
        per_index = saved["per_index"]
        return cls(**{**saved, "per_index": None if per_index is None else tuple(per_index)})


@dataclass(frozen=True)
class Stop:
    """When a warm-up ends early: at a held-out accuracy, or after so many records without a better one."""

    target: float | None
    patience: int | None

    def reason(self, history: list[Record]) -> str | None:
        """Return ``"target"``, ``"patience"`` or None."""
        measured = [record.held_out for record in history if record.held_out is not None]
        if self.target is not None and measured and measured[-1] >= self.target:
            return "target"
        if (
            self.patience is not None
            and measured
            and len(measured) - 1 - measured.index(max(measured)) >= self.patience
        ):
            return "patience"
        return None


@contextmanager
def progress_bar(steps: int, start: int, shown: bool) -> Iterator[Callable[[Record | None], None]]:
    """Show a progress bar in the first process, if tqdm is installed; what is yielded is called after every step."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield lambda record: None
        return
    with tqdm(total=steps, initial=start, desc="retrieval warm-up", disable=not shown or rank() > 0) as bar:

        def tell(record: Record | None) -> None:
            bar.update()
            if record is not None:
                held_out = {} if record.held_out is None else {"held_out": f"{record.held_out:.1%}"}
                bar.set_postfix(loss=f"{record.loss:.3f}", accuracy=f"{record.accuracy:.1%}", **held_out)

        yield tell
