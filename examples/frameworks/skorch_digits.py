"""A multiplexed model in scikit-learn, by skorch: n is a parameter like any other, and a grid search chooses it.

python examples/frameworks/skorch_digits.py
"""

from __future__ import annotations

import torch
from digits import EXAMPLE, digits, network
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from torch import nn

import muxwrap


def multiplexed(n: int = 4) -> nn.Module:
    return muxwrap.wrap(network(), n, example_input=EXAMPLE)


def main(epochs: int = 10, limit: int | None = None) -> dict:
    torch.manual_seed(0)
    (x, y), test = digits(limit)
    net = NeuralNetClassifier(
        multiplexed,
        module__n=4,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=4e-3,
        batch_size=64,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        verbose=0,
    )
    search = GridSearchCV(net, {"module__n": [2, 4]}, cv=2, scoring="accuracy")
    search.fit(x.numpy(), y.numpy())
    for n, score in zip(search.cv_results_["param_module__n"], search.cv_results_["mean_test_score"], strict=True):
        print(f"n={n}: accuracy {score:.1%}")
    return {"search": search, "probabilities": search.predict_proba(test[0].numpy()), "test": test}


if __name__ == "__main__":
    main()
