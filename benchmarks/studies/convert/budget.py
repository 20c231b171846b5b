"""How long every model is trained, and with which learning rates; the same for all students but those with a long budget."""

from __future__ import annotations

EPOCHS = {"snli": 5, "qnli": 8, "imdb": 3, "sst2": 2, "mnli": 5}
LONG = 10  # epochs of what is still learning after those
TEACHER_EPOCHS = {"snli": 3, "qnli": 6, "imdb": 3, "sst2": 2, "mnli": 4}
TEACHER_RATES = (5e-5, 1e-4, 2e-4)
RATES = (1e-4, 3e-4)
