"""Training what multiplexing needs: the retrieval warm-up, and the same objective beside a task's loss."""

from muxwrap.training.accuracy import Retrieved, retrieval_accuracy
from muxwrap.training.auxiliary import RetrievalLoss
from muxwrap.training.head import RetrievalHead, retrieval_head
from muxwrap.training.records import Record
from muxwrap.training.warm_up import WarmUp, warm_up

__all__ = [
    "Record",
    "RetrievalHead",
    "RetrievalLoss",
    "Retrieved",
    "WarmUp",
    "retrieval_accuracy",
    "retrieval_head",
    "warm_up",
]
