"""A multiplexed model in a loop of Accelerate: micro-batches, the state saved and loaded, the model saved.

accelerate launch examples/frameworks/accelerate_digits.py
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from digits import EXAMPLE, digits, loader, network

import muxwrap


def main(epochs: int = 20, limit: int | None = None, folder: str = "runs/accelerate") -> dict:
    set_seed(0)
    train, test = digits(limit)
    accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
    model = muxwrap.wrap(network(), n=2, example_input=EXAMPLE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    model, optimizer, batches, held_out = accelerator.prepare(
        model, optimizer, loader(train, shuffle=True), loader(test)
    )
    for _ in range(epochs):
        model.train()
        for x, y in batches:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(x), y)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
    accelerator.save_state(f"{folder}/state")  # accelerator.load_state goes on from there
    model.eval()
    with torch.no_grad():
        right = [accelerator.gather_for_metrics(model(x).argmax(1) == y) for x, y in held_out]
    accelerator.unwrap_model(model).save_pretrained(f"{folder}/model")
    accuracy = torch.cat(right).float().mean().item()
    accelerator.print(f"accuracy {accuracy:.1%}")
    return {"accelerator": accelerator, "model": model, "accuracy": accuracy, "loss": loss.item(), "test": test}


if __name__ == "__main__":
    main()
