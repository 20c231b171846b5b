"""A text classifier behind Ray Serve: replicas that come and go with the load, mixtures filled in each.

    python examples/serve/ray_serve.py FOLDER             # until Ctrl-C
    python examples/serve/ray_serve.py FOLDER --ask a b   # answers these texts and ends

FOLDER holds what ``model.save_pretrained`` and ``tokenizer.save_pretrained`` wrote.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import Request, urlopen

import ray
import starlette.requests
from ray import serve

SIZE = 64  # requests that a replica holds: several groups, so that mixtures are full


@serve.deployment(
    max_ongoing_requests=SIZE,
    autoscaling_config={"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": SIZE // 2},
    ray_actor_options={"num_cpus": 1},
)
class Multiplexed:
    """One replica: a model, and the groups of its own requests."""

    def __init__(self, folder: str, **options: Any) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        import muxwrap
        from muxwrap import serving

        model = muxwrap.load(folder, AutoModelForSequenceClassification.from_pretrained(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        self.service = serving.service(model, tokenizer=tokenizer, max_queue=SIZE, **options)

    async def __call__(self, request: starlette.requests.Request) -> Any:
        return await self.service.predict(request)


def ask(url: str, text: str) -> dict[str, Any]:
    body = json.dumps({"text": text}).encode()
    with urlopen(Request(url, body, {"Content-Type": "application/json"}), timeout=60) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--max-wait", type=float, default=0.01, help="seconds that a request waits for others")
    parser.add_argument("--ask", nargs="+", metavar="TEXT")
    args = parser.parse_args()

    ray.init(include_dashboard=False, logging_level="WARNING")
    serve.start(http_options={"host": "127.0.0.1", "port": args.port})
    serve.run(Multiplexed.bind(args.folder, max_wait=args.max_wait), route_prefix="/predict", blocking=args.ask is None)
    if args.ask:
        url = f"http://127.0.0.1:{args.port}/predict"
        with ThreadPoolExecutor(len(args.ask)) as threads:
            for answer in threads.map(lambda text: ask(url, text), args.ask):
                print(json.dumps(answer))
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
