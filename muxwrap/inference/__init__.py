"""Batch inference: files in, Parquet out, a row for a row; on one machine, or spread over many by Ray."""

from muxwrap.inference.encoder import Encoder
from muxwrap.inference.images import Images
from muxwrap.inference.run import Summary, predict
from muxwrap.inference.texts import Texts

__all__ = ["Encoder", "Images", "Summary", "Texts", "predict"]
