"""The model card: what a reader of the folder or the repository has to know of a multiplexed model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxwrap.errors import MuxwrapError
from muxwrap.site import percent

NAME = "README.md"
MARK = "<!-- Every save writes this page anew. Take this line out to keep the page as it is. -->"

_PAGE = """\
---
library_name: muxwrap
tags:
- data-multiplexing
---

{mark}

# {backbone}, {n} inputs per pass

{n} inputs are mixed, pass the trunk of this network once and are separated again
([data multiplexing](https://arxiv.org/abs/2202.09318)). An answer depends a little on the inputs that share its pass, so
accuracy is measured over several random groupings.

```python
import muxwrap

model = muxwrap.from_pretrained({name}{needed})
```

{facts}

{measured}
"""


def check_card(card: object, call: str) -> None:
    """Refuse what no card can be made of.

    Raises:
        MuxwrapError: it is not a mapping of titles to texts and results.
    """
    if card is None:
        return
    for title, content in card.items() if isinstance(card, Mapping) else [("", card)]:
        if not isinstance(card, Mapping) or not (isinstance(content, str) or hasattr(content, "table")):
            raise MuxwrapError(
                f"{call}(card={{{title!r}: {type(content).__name__}}}): a card has titles and, for each, a text, what "
                "muxwrap.evaluate returned or what muxwrap.throughput.measure returned"
            )


def is_ours(path: Path | None) -> bool:
    """Whether a page may be written anew."""
    return path is None or MARK in path.read_text(encoding="utf-8", errors="replace")


def page(config: Mapping[str, Any], card: Mapping[str, Any] | None, name: str) -> str:
    """Return the page.

    Args:
        config: how the model was wrapped.
        card: titles, and a text or a result for each.
        name: the folder or the repository that the page's code loads.
    """
    sections = [f"## {title}\n\n{_shown(content)}" for title, content in (card or {}).items()]
    return _PAGE.format(
        mark=MARK,
        backbone=config["backbone"],
        n=config["rows"],
        name=json.dumps(name),
        needed="" if config["recipe"] else ", backbone=...",
        facts=_facts(config),
        measured="\n\n".join(sections) or "Neither accuracy nor speed was given when the model was saved.",
    )


def _facts(config: Mapping[str, Any]) -> str:
    sites, sizes = config["sites"], config["sizes"]
    rows = {
        "backbone": f"`{config['backbone']}`",
        "inputs per pass (n)": f"{config['rows']}" + (f" of {', '.join(map(str, sizes))}" if len(sizes) > 1 else ""),
        "strategy": _module(config["strategy"]),
        "demuxer": _module(config["demux"]),
        "mixed at": _places(sites["mux"]),
        "separated at": _places(sites["demux"]),
        "run once per mixture": "not counted"
        if sites["share"] is None
        else f"{percent(sites['share'])} of the operations",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())])


def _module(saved: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}={value!r}" for key, value in saved["options"].items())
    return f"`{saved['name']}` ({options})" if options else f"`{saved['name']}`"


def _places(sites: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{site['side']} of `{site['path'] or 'the model'}`" for site in sites)


def _shown(content: Any) -> str:
    return content if isinstance(content, str) else content.table()
