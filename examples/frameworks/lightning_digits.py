"""A multiplexed model in Lightning: callbacks, and the checkpoint loaded again.

python examples/frameworks/lightning_digits.py
"""

from __future__ import annotations

import lightning as L
import torch
import torch.nn.functional as F
from digits import EXAMPLE, digits, loader, network
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

import muxwrap


class Classifier(L.LightningModule):
    def __init__(self, n: int = 2, lr: float = 4e-3) -> None:
        super().__init__()
        self.save_hyperparameters()  # load_from_checkpoint then wraps anew, before it loads the tensors
        self.model = muxwrap.wrap(network(), n, example_input=EXAMPLE)

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch, _):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, _):
        x, y = batch
        self.log("accuracy", (self(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)


def main(epochs: int = 20, limit: int | None = None, folder: str = "runs/lightning") -> dict:
    L.seed_everything(0, verbose=False)
    train, test = digits(limit)
    best = ModelCheckpoint(folder, monitor="accuracy", mode="max")
    trainer = L.Trainer(
        max_epochs=epochs,
        callbacks=[best, EarlyStopping("accuracy", mode="max", patience=3)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), loader(train, shuffle=True), loader(test))
    loaded = Classifier.load_from_checkpoint(best.best_model_path).eval()
    print(f"accuracy {best.best_model_score:.1%}")
    return {"trainer": trainer, "best": best, "loaded": loaded, "test": test}


if __name__ == "__main__":
    main()
