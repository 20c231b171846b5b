"""A timm model, trained with timm's own tools in the way of its train.py, with one line added.

    python examples/timm_images.py --model test_resnet --n 2
    python examples/timm_images.py --model test_vit --n 2 --img-size 64 --layer-decay 0.8 --grad-checkpointing
    python examples/timm_images.py --mixup 0.8 --amp

The images are scikit-learn's digits, enlarged to --img-size.
"""

from __future__ import annotations

import argparse
import tempfile
from typing import Any

import timm
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.models import load_checkpoint, resume_checkpoint
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, CheckpointSaver, ModelEmaV3, accuracy
from torch.utils.data import DataLoader, TensorDataset

import muxwrap


def make_loader(size: int, batch_size: int, rows: slice, seed: int | None = None) -> DataLoader[Any]:
    """Load digits of ``size`` × ``size`` pixels in three channels; shuffled by a seed, or in order."""
    data = load_digits()
    images = torch.from_numpy(data.images[rows]).float().unsqueeze(1) / 8 - 1
    images = F.interpolate(images, size=(size, size), mode="bilinear").expand(-1, 3, -1, -1)
    dataset = TensorDataset(images, torch.from_numpy(data.target[rows]).long())
    if seed is None:
        return DataLoader(dataset, batch_size)
    return DataLoader(dataset, batch_size, True, generator=torch.Generator().manual_seed(seed), drop_last=True)


def train_one_epoch(
    epoch: int, model: Any, loader: Any, optimizer: Any, scheduler: Any, ema: Any, args: Any, device: str
) -> float:
    mixup = Mixup(mixup_alpha=args.mixup, label_smoothing=0.1, num_classes=10) if args.mixup else None
    criterion = SoftTargetCrossEntropy() if mixup else torch.nn.CrossEntropyLoss()
    losses = AverageMeter()
    model.train()
    for step, (images, targets) in enumerate(loader):
        images = images.to(device, memory_format=torch.channels_last)
        targets = targets.to(device)
        if mixup:
            images, targets = mixup(images, targets)
        with torch.autocast(device, torch.bfloat16, enabled=args.amp):
            loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        updates = epoch * len(loader) + step + 1
        ema.update(model, step=updates)
        scheduler.step_update(num_updates=updates, metric=loss.item())
        losses.update(loss.item(), len(images))
    return losses.avg


@torch.no_grad()
def validate(model: Any, loader: Any, device: str) -> tuple[float, torch.Tensor]:
    top1, predictions = AverageMeter(), []
    model.eval()
    for images, targets in loader:
        logits = model(images.to(device, memory_format=torch.channels_last))
        top1.update(accuracy(logits, targets.to(device))[0].item(), len(images))
        predictions.append(logits.argmax(1))
    return top1.avg, torch.cat(predictions)


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--n", type=int, default=2, help="instances that share one pass")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--layer-decay", type=float, help="layer-wise decay of the learning rate")
    parser.add_argument("--grad-checkpointing", action="store_true")
    parser.add_argument("--mixup", type=float, default=0.0, help="alpha of timm's mixup; 0 leaves it off")
    parser.add_argument("--amp", action="store_true", help="train in bfloat16 autocast")
    parser.add_argument("--output", help="folder for checkpoints; by default a temporary one")
    parser.add_argument("--resume", help="checkpoint to go on from")
    parser.add_argument("--quick", action="store_true", help="a few steps only, to see that it runs")
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = (slice(0, 128), slice(128, 167)) if args.quick else (slice(0, 1437), slice(1437, None))
    epochs = min(args.epochs, 2) if args.quick else args.epochs

    size = {"img_size": args.img_size} if "vit" in args.model else {}  # a transformer needs it; a ResNet does not
    model = timm.create_model(args.model, num_classes=10, **size)
    model = muxwrap.wrap(model, n=args.n)  # the one line
    if args.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    model.to(device=device, memory_format=torch.channels_last)

    optimizer = create_optimizer_v2(model, opt="adamw", lr=args.lr, weight_decay=0.05, layer_decay=args.layer_decay)
    scheduler, _ = create_scheduler_v2(optimizer, sched="cosine", num_epochs=epochs)
    start = resume_checkpoint(model, args.resume, optimizer) if args.resume else 0
    ema = ModelEmaV3(model, decay=0.99, use_warmup=True)
    if args.resume:
        load_checkpoint(ema.module, args.resume, use_ema=True)
        scheduler.step(start)

    losses = []
    test_loader = make_loader(args.img_size, args.batch_size, test)
    with tempfile.TemporaryDirectory() as temporary:
        saver = CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=args.output or temporary)
        for epoch in range(start, epochs):
            loader = make_loader(args.img_size, args.batch_size, train, seed=epoch)
            losses.append(train_one_epoch(epoch, model, loader, optimizer, scheduler, ema, args, device))
            top1, _ = validate(model, test_loader, device)
            ema_top1, predictions = validate(ema, test_loader, device)
            print(
                f"epoch {epoch + 1:3d}  loss {losses[-1]:.4f}  accuracy {top1:.1f} %  of the average {ema_top1:.1f} %"
            )
            scheduler.step(epoch + 1, ema_top1)
            saver.save_checkpoint(epoch, metric=ema_top1)
    return {"model": model, "ema": ema, "optimizer": optimizer, "losses": losses, "predictions": predictions}


if __name__ == "__main__":
    main()
