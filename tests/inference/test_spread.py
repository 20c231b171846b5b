"""Parts over Ray's workers: none lost with a worker, none twice, and the answers of one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_jobs
from batch_jobs import answers, same, sentences, write

from muxwrap import Multiplex, MuxwrapError
from muxwrap.inference import Texts, predict, spread
from muxwrap.inference.job import Job
from muxwrap.inference.plan import Part
from muxwrap.inference.rows import Cut, File

TEXTS = sentences(60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # workers and servers of Ray see it, too
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", ":".join(sys.path))  # the workers import what the tests do
        import ray

        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray
        ray.shutdown()


@pytest.fixture(scope="module")
def model() -> Multiplex:
    return ray_jobs.model()


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def run(model: Multiplex, path: Path, out: Path, encoder: Texts, **options: Any) -> dict[str, dict[str, Any]]:
    predict(model, path, out, encoder, part=10, progress=False, **options)
    return answers(out)


def test_a_worker_is_killed_in_the_middle(cluster: Any, model: Multiplex, tmp_path: Path, marks: Path) -> None:
    path = write(tmp_path / "a.csv", {"text": [*TEXTS[:34], "deadly w1", *TEXTS[34:], ""]})
    wanted = run(model, path, tmp_path / "one", Texts(ray_jobs.Deadly(marks)))
    (marks / "once").touch()
    found = run(model, path, tmp_path / "many", Texts(ray_jobs.Deadly(marks)), ray=True, workers=2)
    assert not list(marks.iterdir())  # a worker did die
    assert list(found) == list(wanted) == [f"a.csv:{row}" for row in range(62)]
    same(found, wanted)


def test_a_part_that_always_kills_is_given_up(
    cluster: Any, model: Multiplex, tmp_path: Path, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "TRIES", 1)
    path = write(tmp_path / "a.csv", {"text": [*TEXTS[:14], "deadly w1", *TEXTS[14:]]})
    wanted = run(model, path, tmp_path / "one", Texts(ray_jobs.Deadly(marks)))
    (marks / "once").touch()
    with pytest.raises(
        MuxwrapError, match=r"part 1 ended its worker 1 times.*give workers more memory or smaller parts"
    ):
        run(model, path, tmp_path / "many", Texts(ray_jobs.Deadly(marks)), ray=True, workers=1)
    done = {each.name for each in (tmp_path / "many").glob("part-*")}
    assert done == {"part-00000.parquet"}
    same(
        run(model, path, tmp_path / "many", Texts(ray_jobs.Deadly(marks)), ray=True), wanted
    )  # and another call goes on


def test_what_a_worker_refuses_is_refused(cluster: Any, model: Multiplex, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": ["", "w1"], "n": [1, 2]})
    (tmp_path / "out").mkdir()
    job = Job(model, Texts(ray_jobs.Letters()), tmp_path / "out", None, None, 2, False)
    part = Part(0, (Cut(File(path, "a.jsonl"), 0, 3, 0),))
    with pytest.raises(MuxwrapError, match=r"^predict: .*a.jsonl has fewer rows than when it was first read"):
        list(spread.spread(job, [part], 1))


def test_without_ray(model: Multiplex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = write(tmp_path / "a.csv", {"text": TEXTS})
    with pytest.raises(MuxwrapError, match=r"predict: ray is not installed; pip install 'muxwrap\[ray\]'"):
        run(model, path, tmp_path / "out", Texts(ray_jobs.Letters()), ray=True)
