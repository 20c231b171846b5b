"""The parts of a job spread over the workers of a Ray cluster; a part whose worker dies is done by another."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from muxwrap.errors import MuxwrapError
from muxwrap.inference.job import Job
from muxwrap.inference.optional import optional
from muxwrap.inference.plan import Part

TRIES = 4  # of a part; one that ends its worker each time, by its memory say, would never be done

_held: dict[str, Job] = {}
"""The job that this worker process works on, so that it is loaded once and not for every part."""


def spread(job: Job, parts: Sequence[Part], workers: int | None) -> Iterator[int]:
    """Yield the rows of every part that is done.

    Ray is started on this machine if it is not running; the address of a cluster is taken from ``RAY_ADDRESS``, as Ray does.

    Args:
        job: pickled once; every worker loads it once.
        parts: in any order.
        workers: parts that are worked on at once; by default as many as the cluster has GPUs, or cores.

    Raises:
        MuxwrapError: a part ended its worker again and again, or failed.
    """
    ray = optional("ray", "ray")
    started = not ray.is_initialized()
    if started:
        ray.init(include_dashboard=False)
    try:
        yield from _spread(ray, job, parts, workers)
    finally:
        if started:
            ray.shutdown()


def _spread(ray: Any, job: Job, parts: Sequence[Part], workers: int | None) -> Iterator[int]:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    # Ray ends a process with a GPU after every task, and the model would be loaded anew; max_calls=0 keeps it.
    run = ray.remote(num_cpus=1, num_gpus=1 if gpus else 0, max_retries=TRIES - 1, max_calls=0)(_run)
    held = ray.put(_on_cpu(job))
    waiting = list(reversed(parts))
    running: dict[Any, Part] = {}
    while waiting or running:
        while waiting and len(running) < (workers or gpus or int(resources["CPU"])):
            part = waiting.pop()
            running[run.remote([held], part)] = part
        (done, *_), _ = ray.wait(list(running))
        yield _result(ray, done, running.pop(done))


def _result(ray: Any, done: Any, part: Part) -> int:
    try:
        rows: int = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MuxwrapError) else error from None
    except ray.exceptions.RayError as error:
        raise MuxwrapError(
            f"predict(ray=True): part {part.number} ended its worker {TRIES} times ({type(error).__name__}); the other parts "
            "stay: give workers more memory or smaller parts, and call again"
        ) from error
    return rows


def _run(held: list[Any], part: Part) -> int:
    """Answer a part in a worker's process. The reference comes in a list: Ray would load the job for every part."""
    name = held[0].hex()
    if name not in _held:
        ray = optional("ray", "ray")
        job = ray.get(held[0])
        _held.clear()
        if ray.get_gpu_ids():
            job.model.to(torch.accelerator.current_accelerator())
        _held[name] = job
    return _held[name].run(part)


def _on_cpu(job: Job) -> Job:
    """Return the job with its model on the CPU: workers may have another device, or none."""
    if all(each.device.type == "cpu" for each in job.model.parameters()):
        return job
    twin = copy.copy(job)
    twin.model = copy.deepcopy(job.model).to("cpu")
    return twin
