"""Give a table of the site a layout that fits a phone, while mkdocs builds it.

A table of which not even the longest words fit side by side, or with more text in a row than columns that narrow can
hold, is marked for ``docs/assets/site.css``, which shows its rows as cards on small screens. Long names may break.
"""

from __future__ import annotations

import html
import re
from typing import Any

TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
CELL = re.compile(r"<t[hd]([^>]*)>(.*?)</t[hd]>", re.DOTALL)
TEXT = re.compile(r"[^<>]+(?=<|$)")  # outside of tags
LONG = re.compile(r"\S{14,}")
BREAKS = re.compile(r"[@,.:_=(/](?=.)|-(?=\w)")
TAGS = re.compile(r"<[^>]+>")
WIDTH, LETTER, MARGIN = 350, 6.6, 10  # pixels: what a table has on a phone of 390, a letter, a cell's padding
LONGEST_ROW = 150  # letters


def on_page_content(content: str, **_: Any) -> str:
    return TABLE.sub(lambda found: _table(found[0]), content)


def _table(table: str) -> str:
    table = TEXT.sub(lambda text: LONG.sub(lambda word: BREAKS.sub(r"\g<0><wbr>", word[0]), text[0]), table)
    rows = [CELL.findall(row) for row in ROW.findall(table)]
    if not _too_wide([[_words(cell) for _, cell in row] for row in rows]):
        return table
    head = [html.escape(" ".join(_words(cell))) for _, cell in rows[0]]
    return ROW.sub(lambda row: _labelled(row[0], head), table).replace("<table>", "<table data-cards>", 1)


def _too_wide(rows: list[list[list[str]]]) -> bool:
    columns = zip(*rows, strict=True)
    longest = [max((len(word) for cell in column for word in cell), default=0) for column in columns]
    text = max(sum(len(word) + 1 for cell in row for word in cell) for row in rows)
    return sum(MARGIN + LETTER * letters for letters in longest) > WIDTH or (len(longest) > 2 and text > LONGEST_ROW)


def _words(cell: str) -> list[str]:
    return html.unescape(TAGS.sub("", cell.replace("<wbr>", " "))).split()


def _labelled(row: str, head: list[str]) -> str:
    names = iter(head)
    return re.sub(r"<td", lambda _: f'<td data-label="{next(names)}"', row)
