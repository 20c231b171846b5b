"""Training what multiplexing needs: a start with instances apart, the retrieval warm-up, and other losses beside a task's."""

from muxwrap.training.accumulation import accumulation
from muxwrap.training.accuracy import RetrievalAccuracy, retrieval_accuracy
from muxwrap.training.apart import start_apart
from muxwrap.training.crosstalk import damp_crosstalk
from muxwrap.training.distillation import DistillationLoss, distillation
from muxwrap.training.head import RetrievalHead, retrieval_head
from muxwrap.training.loop import Measurement
from muxwrap.training.objective import RetrievalOutput
from muxwrap.training.retrieval_loss import RetrievalLoss
from muxwrap.training.settling import settle_index_norm
from muxwrap.training.warm_up import WarmUp, warm_up

__all__ = [
    "DistillationLoss",
    "Measurement",
    "RetrievalAccuracy",
    "RetrievalHead",
    "RetrievalLoss",
    "RetrievalOutput",
    "WarmUp",
    "accumulation",
    "damp_crosstalk",
    "distillation",
    "retrieval_accuracy",
    "retrieval_head",
    "settle_index_norm",
    "start_apart",
    "warm_up",
]
