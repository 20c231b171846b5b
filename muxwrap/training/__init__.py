"""Training what multiplexing needs: a start with instances apart, the retrieval warm-up, and other losses beside a task's."""

from muxwrap.training.accuracy import RetrievalAccuracy, retrieval_accuracy
from muxwrap.training.apart import start_apart
from muxwrap.training.crosstalk import damp_crosstalk
from muxwrap.training.distillation import DistillationLoss, distillation
from muxwrap.training.head import RetrievalHead, retrieval_head
from muxwrap.training.loop import Measurement
from muxwrap.training.mimo import mimo_rows
from muxwrap.training.objective import RetrievalOutput
from muxwrap.training.principal import principal_slots
from muxwrap.training.retrieval_loss import RetrievalLoss
from muxwrap.training.sandwich import sandwich
from muxwrap.training.warm_up import WarmUp, warm_up

__all__ = [
    "DistillationLoss",
    "Measurement",
    "RetrievalAccuracy",
    "RetrievalHead",
    "RetrievalLoss",
    "RetrievalOutput",
    "WarmUp",
    "damp_crosstalk",
    "distillation",
    "mimo_rows",
    "principal_slots",
    "retrieval_accuracy",
    "retrieval_head",
    "sandwich",
    "start_apart",
    "warm_up",
]
