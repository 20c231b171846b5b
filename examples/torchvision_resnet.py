"""A torchvision model in the loop of torchvision's classification reference, with one line added.

    python examples/torchvision_resnet.py --model resnet18 --n 2

The images are scikit-learn's digits, enlarged to 32 × 32 pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torchvision
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import muxwrap


def load_data(quick: bool) -> tuple[TensorDataset, TensorDataset]:
    data = load_digits()
    preprocess = v2.Compose([v2.Resize(32), v2.Normalize([8.0], [8.0]), v2.RGB()])
    images = preprocess(torch.from_numpy(data.images).float().unsqueeze(1))
    targets = torch.from_numpy(data.target).long()
    train, test = (slice(0, 128), slice(128, 167)) if quick else (slice(0, 1437), slice(1437, None))
    return TensorDataset(images[train], targets[train]), TensorDataset(images[test], targets[test])


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: Any,
    data_loader: Any,
    device: torch.device,
    ema: Any,
    amp: bool,
) -> float:
    model.train()
    total = 0.0
    for image, target in data_loader:
        image, target = image.to(device), target.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            output = model(image)
            loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update_parameters(model)
        total += loss.item() * len(target)
    return total / len(data_loader.dataset)


def evaluate(model: nn.Module, data_loader: Any, device: torch.device) -> tuple[float, torch.Tensor]:
    model.eval()
    correct, predictions = 0, []
    with torch.inference_mode():
        for image, target in data_loader:
            output = model(image.to(device)).argmax(1)
            correct += (output == target.to(device)).sum().item()
            predictions.append(output)
    return correct / len(data_loader.dataset), torch.cat(predictions)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--n", type=int, default=2, help="instances that share one pass")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 autocast")
    parser.add_argument("--output-dir", help="folder for checkpoints")
    parser.add_argument("--resume", help="checkpoint to go on from")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dataset, dataset_test = load_data(args.quick)
    data_loader = DataLoader(dataset, args.batch_size, shuffle=True)
    data_loader_test = DataLoader(dataset_test, args.batch_size)
    epochs = min(args.epochs, 2) if args.quick else args.epochs

    model = torchvision.models.get_model(args.model, num_classes=10)
    model = muxwrap.wrap(model, n=args.n, example_input=dataset[0][0].unsqueeze(0))  # the one line
    model.to(device)

    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4, nesterov=True)
    lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    ema = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    )
    state = {"model": model, "optimizer": optimizer, "lr_scheduler": lr_scheduler, "model_ema": ema}
    start = 0
    if args.resume:
        checkpoint = torch.load(args.resume, map_location="cpu", weights_only=True)
        for name, each in state.items():
            each.load_state_dict(checkpoint[name])
        start = checkpoint["epoch"] + 1

    losses = []
    for epoch in range(start, epochs):
        torch.manual_seed(epoch)  # a resumed run shuffles as the first one did
        losses.append(train_one_epoch(model, criterion, optimizer, data_loader, device, ema, args.amp))
        lr_scheduler.step()
        accuracy, _ = evaluate(model, data_loader_test, device)
        accuracy_ema, predictions = evaluate(ema, data_loader_test, device)
        print(f"epoch {epoch + 1:3d}  loss {losses[-1]:.4f}  test accuracy {accuracy:.3f}  EMA {accuracy_ema:.3f}")
        if args.output_dir:
            saved = {name: each.state_dict() for name, each in state.items()}
            torch.save({**saved, "epoch": epoch}, Path(args.output_dir) / f"model_{epoch}.pth")
    return {"model": model, "ema": ema, "losses": losses, "predictions": predictions}


if __name__ == "__main__":
    main()
