"""Fill the pages of the site while mkdocs builds it: tables from the classes and from ``docs/results/*.json``.

``<!-- table: strategies -->`` on a page is replaced by that table. Nothing made for a page is kept in a file, so
that no page can differ from the code or from the results. The README has no build: ``python tools/docs_tables.py`` writes
its tables, and a test compares them.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # mkdocs runs this file from elsewhere

from benchmarks.inference import report as inference
from benchmarks.serving import report as served
from benchmarks.studies.ablations.studies import STUDIES as STUDIED
from benchmarks.studies.convert import pages as convert
from benchmarks.studies.convert_images import report as convert_images
from benchmarks.studies.elastic import chart_report
from benchmarks.studies.elastic import report as elastic
from benchmarks.studies.elastic import trace_report as elastic_trace
from benchmarks.studies.ensemble import report as ensemble
from benchmarks.studies.text.findings import TABLES as TEXT_FINDINGS
from benchmarks.studies.text.findings import scores
from benchmarks.studies.vision.findings import TABLES as VISION_FINDINGS
from muxwrap import MuxwrapError, demuxers, strategies
from muxwrap._util.docstrings import cost, summary

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
MARKER = re.compile(r"^( *)<!-- table: ([\w ]+) -->$", re.MULTILINE)
KEPT = re.compile(r"(<!-- table: ([\w ]+) -->\n\n).*?(<!-- end -->)", re.DOTALL)
ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):(<code>|`)~?(?:\w+\.)*(\w+)(</code>|`)")
SCALES = {"mean": "1/n", "sqrt": "1/√n", "sum": "1"}
N, DIM = 8, 256  # what "numbers kept" are counted at
ZOO = {"name": "architecture", "parameters": "parameters", "mux": "mixed at", "demux": "separated at"}
SPEED = {"name": "model", "backbone": "backbone", "strategy": "strategy", "demux": "demuxer", "rows": "rows per call"}
SPEED |= {"dtype": "dtype"}
SPEED |= {
    "instances_per_second": "instances/s",
    "ratio_to_bare": "speed-up",
    "bound": "bound",
    "predicted": "predicted",
}
SPEED |= {"length": "tokens", "mixtures": "mixtures per call", "share": "share of the step"}
SPEED |= {"activation_bytes": "activation bytes", "memory_ratio": "memory saved"}
SPEED |= {"flops": "operations"}
# column: task, whether a teacher was there, and which model
OVERVIEW = {
    "SST-2, %": ("sst2", False, "multiplexed"),
    "SNLI, %": ("snli", True, "multiplexed"),
    "SNLI, small plain model, %": ("snli", True, "rival"),
}
UNITS: dict[str, Callable[[float], str]] = {
    "activation_bytes": lambda value: f"{value / 1e6:.3g} MB",
    "flops": lambda value: f"{value / 1e9:.3g} G",
    "ratio_to_bare": lambda value: f"{value:.2f}x",
    "share": lambda value: f"{100 * value:.3g} %",
}
CAPTIONED = ("backbone", "strategy", "demux", "length", "mixtures")
STUDIES = {
    "sequence": "Sequence classification at full length",
    "strategies": "Strategies",
    "prefix": "Index prefix",
    "tokens_mlp": "Token classification, the default demuxer",
    "tokens_key": "Token classification, keys",
    "tokens_index": "Token classification, index prefix",
    "smaller": "Smaller multiplexed models against the large bare one",
    "mnli": "Real sentence pairs, grouped by length; the bare model with dynamic padding and length sorting",
    "vision_stem": "Images, mixed after the stem",
    "vision_pixels": "Images, mixed at the pixels",
    "memory": "Memory",
    "share": "Mixing and separating",
    "training": "Training",
    "arithmetic_compile": "Compiled",
    "arithmetic_bfloat16": "bfloat16: autocast and weights",
    "arithmetic_int8": "8-bit weights in the backbone",
    "arithmetic_onnx": "onnxruntime",
    "growth_n": "Instances",
    "growth_length": "Length",
    "growth_depth": "Depth",
    "growth_width": "Width",
    "batch": "Mixtures in a call",
}
BFLOAT16 = {"arithmetic_bfloat16": "6 layers of 384 features, 64 tokens"}
ON_ACCELERATOR = {
    "sequence": "Sequence classification at full length",
    "compiled": "The same, compiled",
    "training": "The same, forward and backward",
    "vision": "Images of 224 pixels",
}
PARITY = {"published": "published", "backbone": "backbone", "task": "task", "strategy": "strategy", "demux": "demuxer"}
PARITY |= {"largest_logit": "largest logit", "max": "largest difference"}
IN_COMPANY = (
    "| strategy | n | own label, % | companion's, % | chance, % | index, % | right, % | worst of 16, % | made, % |"
)
FAILED = {"family": "family", "name": "architecture", "reason": "reason"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put every table in the place of its marker (mkdocs calls this for each page)."""
    return MARKER.sub(lambda marker: indent(TABLES[marker[2]](), marker[1]), markdown)


def refreshed(markdown: str) -> str:
    """Return a file that is read as it is, the README, with the tables between its markers made anew."""
    return KEPT.sub(lambda kept: f"{kept[1]}{TABLES[kept[2]]()}\n\n{kept[3]}", markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Turn the cross-references of docstrings, such as :func:`wrap`, into plain code."""
    return ROLE.sub(r"\1\2\3", html)


def strategy_facts() -> str:
    """One line a strategy: what is true of it."""
    rows = []
    for name in strategies.registry.names():
        made: Any = _made(name)
        facts = ["yes" if fact else "no" for fact in (made.invertible, made.isometric, made.disjoint)]
        seen = {"features": "a position"}.get(made.sees, made.sees)
        rows.append([_link(name), _summary(made), seen, *facts, _learns(made), SCALES[made.scale], f"{_kept(made):,}"])
    return _table("| name | φ | sees | invertible | isometric | disjoint | learns | scale s | numbers kept |", rows)


def _made(name: str, **options: Any) -> Any:
    """A strategy at n=8: on features for 256 of them, on images for 3 channels of 16 x 16 pixels."""
    cls = strategies.registry.get(name)
    dim = 3 if cls.sees == "image" else DIM
    return strategies.registry.build(partial(cls, **options), n=N, dim=dim, size=(16, 16))


def _learns(made: Any) -> str:
    try:
        return "by default" if made.learnable else _made(made.name, learnable=True) and "if asked"
    except MuxwrapError:
        return "no"


def demuxer_facts() -> str:
    """One line a demuxer: what is true of it."""
    made = [
        demuxers.registry.build(name, n=N, dim=DIM, strategy=strategies.registry.get("sign")(N, DIM))
        for name in demuxers.registry.names()
    ]
    rows = ([_link(d.name), _summary(d), "n" if d.prefix_length == N else "none", f"{_kept(d):,}"] for d in made)
    return _table("| name | output for index i | prefix tokens | numbers kept |", rows)


def costs(registry: Any) -> str:
    """One line a class: the cost that its docstring states."""
    found = ((name, cost(registry.get(name))) for name in registry.names())
    return _table("| name | cost |", ([_link(name), _inline(text)] for name, text in found if text))


def demo() -> str:
    """The demo's picture and its cells; nothing before it was run."""
    data = _results("demo")
    if data is None:
        return ""
    picture = ["![Accuracy and throughput of the demo](images/demo.png)"] * (DOCS / "images" / "demo.png").exists()
    return "\n\n".join([*picture, demo_table(), _origin(data)])


def demo_table() -> str:
    """The demo's accuracy over five groupings, and its speed."""
    data = _results("demo")
    rows = []
    for r in data["records"] if data else ():
        facts = [f"{r['instances_per_second']:,.0f}", f"{r['ratio_to_bare']:.2f}x", f"{r['added_parameters']:,}"]
        rows.append([_name(r["n"]), f"{r['mean']:.1f} ± {r['std']:.1f} %", *facts])
    return _table("| model | accuracy | images/s | speed-up | added parameters |", rows)


def overview() -> str:
    """Speed of a large text model, and what a small one keeps of its accuracy, by n."""
    speeds = [_by_n(_results(name), "sequence") for name in ("throughput", "throughput_accelerator")]
    data = _results("text")
    if data is None or not all(speeds):
        return "*Not measured before these pages were built.*"
    kept = [scores(data["records"], task, taught, kind) for task, taught, kind in OVERVIEW.values()]
    rows = [
        [_name(n), *(f"{each[n]['ratio_to_bare']:.1f}x" for each in speeds), *(f"{each[n]:.1f}" for each in kept)]
        for n in (1, 2, 5, 10, 20, 40)
    ]
    return _table(f"| model | processor | H200 | {' | '.join(OVERVIEW)} |", rows)


def zoo() -> str:
    """What `make zoo` found: a summary, every architecture that works, and why the others do not."""
    data = _results("zoo")
    if data is None:
        return "*The zoo was not run before these pages were built: `make zoo` writes `docs/results/zoo.json`.*"
    records = sorted(data["records"], key=lambda r: (r["family"], r["name"]))
    tried = Counter(r["family"] for r in records)
    works = Counter(r["family"] for r in records if r["works"])
    parts = [_origin(data), _table("| family | tried | work |", ([f, str(tried[f]), str(works[f])] for f in tried))]
    parts += ["## What does not, and why", _records([r for r in records if not r["works"]], FAILED), "## What works"]
    for family in works:
        parts += [f"### {family}", _records([r for r in records if r["works"] and r["family"] == family], ZOO)]
    return "\n\n".join(parts)


def throughput(name: str, script: str, titles: dict[str, str]) -> str:
    """What a benchmark measured, a table a study."""
    data = _results(name)
    if data is None:
        return f"*Not measured before these pages were built: `benchmarks/{script}` writes `docs/results/{name}.json`.*"
    tables = []
    for study, title in titles.items():
        records = [_with_units(r) for r in data["records"] if r["study"] == study]
        shown = {key: name for key, name in SPEED.items() if any(r.get(key) is not None for r in records)}
        if len({r.get("dtype") for r in records}) == 1:
            shown.pop("dtype", None)
        tables += [f"### {title}", *_with_caption(records, shown)] if records else []
    return "\n\n".join([_origin(data), *tables])


def _with_caption(records: list[dict[str, Any]], titles: dict[str, str]) -> list[str]:
    """Return a line with what all records share, and a table of the rest."""
    found = {key: {str(r[key]) for r in records if r.get(key) is not None} for key in titles}
    shared = [key for key in titles if len(found[key]) == 1 and key in CAPTIONED]
    caption = "; ".join(f"{titles[key]} {found[key].pop()}" for key in shared)
    table = _records(records, {key: title for key, title in titles.items() if key not in shared})
    return [f"{caption[:1].upper()}{caption[1:]}.", table] if shared else [table]


def speed(name: str) -> str:
    """The headline of the throughput page: full-length sequences against n, in every dtype of the run."""
    data = _results(name)
    records = [r for r in data["records"] if r["study"] == "sequence"] if data else []
    if not records:
        return "*Not measured before these pages were built: `benchmarks/speed/throughput.py` does it.*"
    dtypes = dict.fromkeys(r.get("dtype", "float32") for r in records)
    cells: dict[int, list[str]] = {}
    for r in records:
        share = f"{r['ratio_to_bare']:.1f} ({r['ratio_to_bare'] / r['n']:.0%})"
        cells.setdefault(r["n"], []).extend([f"{r['instances_per_second']:,.1f}", share if r["n"] > 1 else "1"])
    head = "".join(f" {dtype}: sequences/s | speed-up (of the bound) |" for dtype in dtypes)
    table = _table(f"| n |{head}", (["bare" if n == 1 else str(n), *row] for n, row in cells.items()))
    instructions = {r["bfloat16_instructions"] for r in records if "bfloat16_instructions" in r}
    notes = [f"*For bfloat16 this processor has: {name or 'no instructions'}.*" for name in instructions]
    return "\n\n".join([table, *notes, _origin(data)])


def published() -> str:
    """How far `benchmarks/speed/published_parity.py` found muxwrap from the authors' answers."""
    data = _results("published")
    if data is None:
        return "*Not compared before these pages were built.*"
    return "\n\n".join([_records(data["records"], PARITY), _origin(data)])


def wrap_time() -> str:
    """How long `wrap` took, in passes of the bare model, as `benchmarks.speed.wrap_time` measured it."""
    data = _results("wrap_time")
    if data is None:
        return "*Not measured before these pages were built: `benchmarks.speed.wrap_time` does it.*"
    rows = [
        [r["backbone"], f"{r['passes']:.1f}", f"{r['passes_of_one_row']:.1f}", str(r["calls"]), f"{r['seconds']:.1f}"]
        for r in data["records"]
    ]
    table = _table("| model | passes of three rows | passes of one row | calls | seconds |", rows)
    return f"{table}\n\n{_origin(data)}"


def static_shapes() -> str:
    """Batch-1 throughput of graphs with fixed shapes, as `benchmarks.speed.static_shapes` measured it."""
    data = _results("static_shapes")
    if data is None:
        return "*Not measured before these pages were built: `benchmarks.speed.static_shapes` does it.*"
    rows = [
        [
            r["backbone"],
            r["runtime"],
            r["name"],
            str(r["rows"]),
            f"{r['instances_per_second']:,.1f}",
            f"{r['ratio_to_bare']:.2f}x",
        ]
        for r in data["records"]
    ]
    table = _table("| backbone | runtime | model | images per call | images/s | speed-up |", rows)
    return f"{table}\n\n{_origin(data)}"


def batch_inference() -> str:
    """What `python -m benchmarks.inference` found."""
    data = _results("inference")
    if data is None:
        return "*Not measured before these pages were built: `python -m benchmarks.inference` does it.*"
    return f"{_table(inference.HEAD, inference.rows(data['records']))}\n\n{_origin(data)}"


def retrieval_levels() -> str:
    """What `benchmarks/studies/text/retrieval.py` reached on unseen text, by n and configuration."""
    data = _results("retrieval_levels")
    if data is None:
        return "*Not measured before these pages were built.*"
    rows = []
    for r in sorted(data["records"], key=lambda r: (r["n"], r["configuration"])):
        levels = [f"{100 * value:.1f} %" for value in (r["mean"], min(r["per_index"]))]
        rows.append([str(r["n"]), r["configuration"], r["backbone"], f"{r['steps']:,}", *levels])
    table = _table("| n | configuration | backbone | steps | retrieval accuracy | worst index |", rows)
    return f"{table}\n\n{_origin(data)}"


def damped_crosstalk() -> str:
    """Accuracy on SNLI of slots that start apart, with and without damped crosstalk, where both were measured."""
    data = _results("text")
    found: dict[tuple[int, ...], dict[float, list[float]]] = {}
    for r in data["records"] if data else ():
        cell = r["dataset"], r["configuration"], r["layers"], r.get("teachers")
        if cell == ("snli", "apart", 2, None) and "crosstalk" in r:
            rates = found.setdefault((r["n"], r["heads"], r["warm_up"]), {})
            rates.setdefault(r["crosstalk"], []).append(r["mean"])
    rows = []
    for key, rates in sorted(found.items()):
        if len(rates) > 1:
            means = [f"{sum(rates[rate]) / len(rates[rate]):.1f} % ({len(rates[rate])})" for rate in (1.0, 0.1)]
            rows.append([*map(str, key), *means])
    heading = "| n | heads | steps of warm-up | undamped (seeds) | damped, rate 0.1 (seeds) |"
    return _table(heading, rows) if rows else "*Not measured before these pages were built.*"


def text() -> str:
    """All cells of `benchmarks/studies/text/study.py`, as `benchmarks/studies/text/report.py` shows them, with pictures."""
    data = _results("text")
    if data is None:
        return _missing("text")
    from benchmarks.studies.text.report import markdown

    pictures = [f"![Score against n](images/{path.name})" for path in sorted((DOCS / "images").glob("text-*.png"))]
    return "\n\n".join([_origin(data), markdown(data["records"]), "## Pictures", *pictures])


def text_finding(name: str) -> str:
    """One small table of the page of text results."""
    data = _results("text")
    return TEXT_FINDINGS[name](data["records"]) if data else _missing("text")


def capacity() -> str:
    """The largest n that `benchmarks.studies.theory` read back, by width and vocabulary, beside rule and prediction."""
    data = _results("theory")
    records = [r for r in data["records"] if r["figure"] == "capacity limit"] if data else []
    if not records:
        return "*Not measured before these pages were built.*"
    codes = list(dict.fromkeys(r["strategy"] for r in records))
    cells = {(r["share"], r["dim"], r["vocabulary"], r["strategy"]): r for r in records}
    rows = []
    for share, dim, words in dict.fromkeys(key[:3] for key in sorted(cells, key=lambda key: (-key[0], *key[1:3]))):
        found = [cells[share, dim, words, code] for code in codes]
        facts = [f"{share:.0%}", f"{dim:,}", f"{words:,}", f"{found[0]['rule']:.1f}", f"{found[0]['predicted']:.0f}"]
        rows.append([*facts, *(f"{r['mean']:.0f}" for r in found)])
    return (
        _table(f"| read back | d | V | d / (2 ln V) | predicted | {' | '.join(codes)} |", rows) + "\n\n" + _origin(data)
    )


def ablations() -> str:
    """Where the tables of the ablations come from."""
    data = _results("ablations")
    if data is None:
        return "*Not run before these pages were built: `benchmarks.studies.ablations` writes `docs/results/ablations.json`.*"
    return _origin(data)


def ablation(name: str) -> str:
    """One study's picture and table, as `benchmarks/studies/ablations/draw.py` shows them."""
    data = _results("ablations")
    from benchmarks.studies.ablations.draw import markdown

    made = markdown(name, data["records"]) if data else ""
    picture = DOCS / "images" / f"ablation_{name}.png"
    shown = [f"![{name.replace('_', ' ')}: the table below as a picture](images/{picture.name})"] * picture.exists()
    return "\n\n".join([*shown, made]) if made else "*Not measured before these pages were built.*"


def vision() -> str:
    """All cells of the vision study and its `speed.py`, as `benchmarks/studies/vision/report.py` shows them, with pictures."""
    data, speeds = _results("vision"), _results("vision_speed")
    if data is None:
        return _missing("vision")
    from benchmarks.studies.vision.report import markdown

    pictures = [f"![Accuracy](images/{path.name})" for path in sorted((DOCS / "images").glob("vision-*.png"))]
    tables = markdown(data["records"], speeds["records"] if speeds else ())
    return "\n\n".join([origin("vision"), origin("vision_speed"), tables, "## Pictures", *pictures])


def vision_finding(name: str) -> str:
    """One small table of the page of image results."""
    data, speeds = _results("vision"), _results("vision_speed")
    return VISION_FINDINGS[name](data["records"], speeds["records"] if speeds else []) if data else _missing("vision")


def reported(study: str, report: Any) -> str:
    """The table of a study, as its own report makes it, and how it was made."""
    data = _results(study)
    if data is None:
        return _missing(study)
    return "\n\n".join([_table(report.HEAD, report.rows(data["records"])), _origin(data)])


def bursts() -> str:
    """Servers under bursts of requests: the picture and the table."""
    picture = "![Right and in time against the load](images/elastic-trace.png)\n\n"
    return picture * (DOCS / "images" / "elastic-trace.png").exists() + reported("elastic_trace", elastic_trace)


def charted() -> str:
    """A chart of what a trained model can become: its sentences, the picture and the table."""
    data = _results("frontier")
    if data is None:
        return _missing("frontier")
    picture = ["![Accuracy against speed-up](images/frontier.png)"] * (DOCS / "images" / "frontier.png").exists()
    said = [f"> {each}" for each in chart_report.said(data["records"])]
    return "\n\n".join([*said, *picture, reported("frontier", chart_report)])


def reliability(study: str, head: str, line: Callable[[dict[str, Any]], list[str]]) -> str:
    """What a study of the page on reliability measured: one line a record."""
    data = _results(study)
    if data is None:
        return _missing(study)
    return "\n\n".join([_table(head, (line(r) for r in data["records"] if "message" not in r)), _origin(data)])


def _looked(r: dict[str, Any]) -> list[str]:
    return [r["name"], f"{1000 * r['seconds']:.1f} ms", *(f"{100 * r[mode]:+.1f} %" for mode in ("raise", "isolate"))]


def _in_company(r: dict[str, Any]) -> list[str]:
    read = [f"{r[key]:.1f}" for key in ("own", "neighbour", "chance", "index")]
    return [f"`{r['strategy']}`", str(r["n"]), *read, *(f"{r[key]:.1f}" for key in ("usual", "chosen", "crafted"))]


def _ordered(r: dict[str, Any]) -> list[str]:
    return [f"{r['minutes']:g}", *(f"{r[key]:,}" for key in ("runs", "steps", "faults"))]


def converted(name: str) -> str:
    """Trained models that were converted, as `benchmarks.studies.convert` measured them."""
    data = _results("convert")
    if data is None:
        return _missing("convert")
    if name == "speeds":
        rows = convert.at_speeds(data["records"])
        return _table(convert.AIMS_HEAD, rows) if rows else "*No speed was measured before these pages were built.*"
    if name == "teachers":
        return _table(convert.TEACHERS_HEAD, convert.teachers(data["records"]))
    if name == "longer":
        return _table(convert.LONGER_HEAD, convert.longer(data["records"]))
    rows = convert.headline(data["records"]) if name == "headline" else convert.whole(data["records"])
    return "\n\n".join([_table(convert.HEAD, rows), *([] if name == "headline" else [_origin(data)])])


def served_by(study: str, options: str, report: Callable[[list[dict[str, Any]]], str]) -> str:
    """What `benchmarks.serving` measured of a server: load, memory or faults."""
    data = _results(study)
    if data is None:
        return (
            f"*Not measured before these pages were built: `python -m benchmarks.serving{options}` writes the results.*"
        )
    return f"{report(data['records'])}\n\n{_origin(data)}"


def origin(study: str) -> str:
    """How the results of a study were made."""
    data = _results(study)
    return _origin(data) if data else _missing(study)


def _missing(study: str) -> str:
    return f"*Not run before these pages were built: `benchmarks/studies` writes `docs/results/{study}.json`.*"


def _with_units(record: dict[str, Any]) -> dict[str, Any]:
    return record | {key: show(record[key]) for key, show in UNITS.items() if record.get(key) is not None}


def _by_n(data: dict[str, Any] | None, study: str) -> dict[int, dict[str, Any]]:
    return {r["n"]: r for r in data["records"] if r["study"] == study} if data else {}


def _name(n: int) -> str:
    return "bare" if n == 1 else f"n={n}"


def _results(study: str) -> dict[str, Any] | None:
    path = DOCS / "results" / f"{study}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _origin(data: dict[str, Any]) -> str:
    machine, packages = _cell(data["machine"]), _cell(data["packages"])
    devices = Counter(record.get("device", "cpu") for record in data["records"])
    elsewhere = [f"; {count} of {devices.total()} cells on {name}" for name, count in devices.items() if name != "cpu"]
    return (
        f"*Made by `{data['command']}`, commit {str(data['commit'])[:9]}; {machine}{''.join(elsewhere)}; {packages}.*"
    )


def _records(records: list[dict[str, Any]], titles: dict[str, str]) -> str:
    return _table(f"| {' | '.join(titles.values())} |", ([_cell(r.get(key)) for key in titles] for r in records))


def _table(head: str, rows: Iterable[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * (head.count("|") - 1), *lines])


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else _inline(str(value or "–"))


def _inline(text: str) -> str:
    """Fit a docstring's text into one cell; outside of code, a ``_`` or a ``<`` is to mean itself."""
    parts = re.split(r"(`+.+?`+)", ROLE.sub(r"`\2`", " ".join(text.split())))
    return "".join(p.replace("``", "`") if p.startswith("`") else re.sub(r"([_<])", r"\\\1", p) for p in parts)


def _summary(made: Any) -> str:
    return _inline(summary(type(made)))


def _kept(module: Any) -> int:
    return sum(value.numel() for value in module.state_dict().values())


def _link(name: str) -> str:
    return f"[{name}](#{name})"


TABLES: dict[str, Callable[[], str]] = {
    "strategies": strategy_facts,
    "strategy costs": lambda: costs(strategies.registry),
    "demuxers": demuxer_facts,
    "demuxer costs": lambda: costs(demuxers.registry),
    "demo": demo,
    "demo table": demo_table,
    "zoo": zoo,
    "throughput": partial(throughput, "throughput", "throughput.py", STUDIES),
    "accelerator": partial(throughput, "throughput_accelerator", "accelerator.py", ON_ACCELERATOR),
    "retrieval levels": retrieval_levels,
    "wrap time": wrap_time,
    "static shapes": static_shapes,
    "batch inference": batch_inference,
    "damped crosstalk": damped_crosstalk,
    "overview": overview,
    "text": text,
    "text origin": partial(origin, "text"),
    "capacity": capacity,
    "ablations": ablations,
    "published": published,
    "ensemble": partial(reported, "ensemble", ensemble),
    "elastic": partial(reported, "elastic", elastic),
    "elastic trace": bursts,
    "frontier": charted,
    "convert images": partial(reported, "convert_images", convert_images),
    "check finite": partial(reliability, "check_finite", "| model | a call | raise | isolate |", _looked),
    "company": partial(reliability, "company", IN_COMPANY, _in_company),
    "machine": partial(reliability, "machine", "| minutes | runs | steps | faults |", _ordered),
    "convert headline": partial(converted, "headline"),
    "convert": partial(converted, "whole"),
    "convert speeds": partial(converted, "speeds"),
    "convert longer": partial(converted, "longer"),
    "convert teachers": partial(converted, "teachers"),
    "serving": partial(served_by, "serving", "", served.table),
    "serving soak": partial(
        served_by, "serving_soak", " --soak 10", lambda records: "\n\n".join(served.soaks(records))
    ),
    "serving faults": partial(served_by, "serving_faults", " --faults 100", served.faults_table),
    "speed": partial(speed, "throughput"),
    "speed bfloat16": partial(speed, "throughput_bfloat16"),
    "bfloat16": partial(throughput, "throughput_bfloat16", "throughput.py", BFLOAT16),
    "vision": vision,
    "vision origin": partial(origin, "vision"),
    "vision speed origin": partial(origin, "vision_speed"),
}
TABLES |= {f"ablation {name}": partial(ablation, name) for name in STUDIED}
TABLES |= {f"text {name}": partial(text_finding, name) for name in TEXT_FINDINGS}
TABLES |= {f"vision {name}": partial(vision_finding, name) for name in VISION_FINDINGS}

if __name__ == "__main__":
    README = ROOT / "README.md"
    README.write_text(refreshed(README.read_text()))
