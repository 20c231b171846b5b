"""Answers for files of rows, written as Parquet: the call of one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muxwrap._util.progress import progress_bar, progress_line
from muxwrap.errors import MuxwrapError
from muxwrap.inference.encoder import Encoder
from muxwrap.inference.files import find
from muxwrap.inference.job import Job
from muxwrap.inference.manifest import begin, encoder_digest, model_digest
from muxwrap.inference.optional import optional
from muxwrap.inference.plan import make_plan
from muxwrap.inference.spread import spread
from muxwrap.inference.summary import Summary
from muxwrap.inference.table import TEMPORARY, complete, errors_of, rows_of
from muxwrap.multiplex import check_wrapped

MIXTURES = 32  # of a batch, by default


def predict(
    model: Any,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    encoder: Encoder,
    *,
    key: str | None = None,
    group_by: str | None = None,
    batch: int | None = None,
    part: int | None = None,
    label: bool = False,
    ray: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Summary:
    """Answer every row of files and write the answers as Parquet, a row for a row.

    Files are Parquet, CSV, TSV, JSON lines or images. All are read once before anything is written. Then they are cut into
    parts, and every part is answered and written by itself, under its name only when it is whole: after an interruption the
    same call goes on with the parts that are not there. Rows of like length share mixtures, within a part. Which do is a
    function of the input and these arguments, so neither a restart nor the number of workers changes an answer.

    A row that cannot be answered (no text, a broken image) has nulls and the reason in ``error``, and no part in a mixture.

    Args:
        model: a wrapped model, in its dtype and on its device; ``model.n`` rows share a mixture.
        inputs: files and folders, in any order.
        out: a new folder, or one that the same call has begun.
        encoder: :class:`Texts` or :class:`Images`, which make the model's inputs.
        key: the column whose values name the rows; all have to differ. By default ``file:row``, or the name of an image.
        group_by: a column (tenant, user, document): rows of different values never share a mixture.
        batch: rows of a call, a multiple of n; 32 mixtures by default.
        part: rows of a part, and of its file; by default what the encoder says.
        label: add the likeliest class and its probability as ``label`` and ``score``.
        ray: spread the parts over a Ray cluster, or over the cores of this machine where none is running. All machines have to
            see inputs and ``out`` under the same names.
        workers: of Ray; by default as many as there are GPUs, or cores.
        progress: show a bar, if tqdm is installed.

    Returns:
        How many rows there are, and how many have an error.

    Raises:
        MuxwrapError: an input cannot be read, a key stands twice, the folder was begun with another model, input or setting,
            or the model answers no row of a part.
    """
    start = time.monotonic()
    check_wrapped(model, "predict")
    encoder.check(model)
    out = Path(out).absolute()
    optional("pyarrow.parquet", "predict")
    counts = {
        "batch": MIXTURES * model.n if batch is None else batch,
        "part": encoder.rows_per_part if part is None else part,
    }
    _check_counts({**counts, "workers": 1 if workers is None else workers}, model.n)
    if workers is not None and not ray:
        raise MuxwrapError(
            f"predict(workers={workers}): one process answers all parts; give ray=True, or leave workers= out"
        )
    files, ignored = find([inputs] if isinstance(inputs, (str, Path)) else inputs, out)
    job = Job(model, encoder, out, key, group_by, counts["batch"], label)
    with progress_line(f"reading {len(files)} files"):
        plan = make_plan(files, job.columns, key, counts["part"])
        settings = {
            "model": model_digest(model),
            "encoder": encoder_digest(encoder, plan.sample),
            "input": plan.digest,
            **counts,
            "key": key,
            "group_by": group_by,
            "label": label,
        }
    begin(out, settings)
    left = [each for each in plan.parts if rows_of(out / each.name) != each.rows]
    with progress_bar(sum(each.rows for each in left), "predict", shown=progress) as tick:
        if ray and left:
            for rows in spread(job, left, workers):
                for _ in range(rows):
                    tick()
        else:
            for each in left:
                job.run(each, tick)
    paths = [out / each.name for each in plan.parts]
    complete(paths)
    for leftover in out.glob(f"{TEMPORARY}*"):  # of a worker that ended while it wrote
        leftover.unlink(missing_ok=True)
    errors = sum(map(errors_of, paths))
    seconds = time.monotonic() - start
    return Summary(str(out), plan.rows, errors, len(paths), len(paths) - len(left), ignored, seconds)


def _check_counts(counts: dict[str, Any], n: int) -> None:
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise MuxwrapError(f"predict({name}={value!r}): not a count; give an int of at least 1")
    if counts["batch"] % n:
        raise MuxwrapError(
            f"predict(batch={counts['batch']}): not a multiple of n={n}, so every call would have a mixture to fill; give "
            f"{-(-counts['batch'] // n) * n}"
        )
