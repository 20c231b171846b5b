"""Training what multiplexing needs: a start with instances apart, the retrieval warm-up, and other losses beside a task's."""

from muxwrap.training.accumulation import accumulation
from muxwrap.training.accuracy import RetrievalAccuracy, retrieval_accuracy
from muxwrap.training.apart import start_apart
from muxwrap.training.crosstalk import damp_crosstalk
from muxwrap.training.distill import Distilled, distill
from muxwrap.training.distill_loop import DistillMeasurement
from muxwrap.training.distillation import distillation
from muxwrap.training.distillation_loss import DistillationLoss, TaughtOutput
from muxwrap.training.head import RetrievalHead, retrieval_head
from muxwrap.training.loop import Measurement
from muxwrap.training.mimo import mimo_rows
from muxwrap.training.objective import RetrievalOutput
from muxwrap.training.principal import principal_slots
from muxwrap.training.retrieval_loss import RetrievalLoss
from muxwrap.training.sandwich import sandwich
from muxwrap.training.settling import settle_index_norm
from muxwrap.training.warm_up import WarmUp, warm_up

__all__ = [
    "DistillMeasurement",
    "DistillationLoss",
    "Distilled",
    "Measurement",
    "RetrievalAccuracy",
    "RetrievalHead",
    "RetrievalLoss",
    "RetrievalOutput",
    "TaughtOutput",
    "WarmUp",
    "accumulation",
    "damp_crosstalk",
    "distill",
    "distillation",
    "mimo_rows",
    "principal_slots",
    "retrieval_accuracy",
    "retrieval_head",
    "sandwich",
    "settle_index_norm",
    "start_apart",
    "warm_up",
]
