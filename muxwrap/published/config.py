"""The ``config.json`` of a published checkpoint, checked before anything is built."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from muxwrap.checkpoint import BACKBONE_CONFIG
from muxwrap.errors import MuxwrapError, check_count, known_names

CONFIG = "config.json"

ARCHITECTURES: dict[str, tuple[Literal["roberta", "bert"], Literal["sequence", "token"]]] = {
    "RobertaSequenceClassificationMuxed": ("roberta", "sequence"),
    "RobertaTokenClassificationMuxed": ("roberta", "token"),
    "MuxedBertForSequenceClassification": ("bert", "sequence"),
    "MuxedBertForTokenClassification": ("bert", "token"),
}
"""The published classes that answer a task: DataMUX's two, then MUX-PLM's."""

_BACKBONES = {
    "RobertaForSequenceClassification": "RobertaSequenceClassificationMuxed",
    "RobertaForTokenClassification": "RobertaTokenClassificationMuxed",
    "BertForSequenceClassification": "MuxedBertForSequenceClassification",
    "BertForTokenClassification": "MuxedBertForTokenClassification",
}
"""What a folder names that ``save_pretrained`` wrote: the class of its backbone."""

VARIANTS = {
    "roberta": {"gaussian_hadamard", "random_ortho", "binary_hadamard"},
    "bert": {
        "gaussian_hadamard",
        "random_ortho",
        "binary_hadamard",
        "random_ortho_low_rank",
        "gaussian_attention_v2",
    },
}
DEMUXERS = {"roberta": {"index", "mlp"}, "bert": {"index", "index_pos"}}


@dataclass(frozen=True)
class MuxConfig:
    """The part of a published config that concerns multiplexing, and the whole file beside it.

    Args:
        family: ``"roberta"`` (DataMUX) or ``"bert"`` (MUX-PLM), also the name of the backbone's base model.
        task: ``"sequence"`` or ``"token"`` classification.
        n: instances in a mixture.
        muxing: the published name of the strategy.
        demuxing: the published name of the demuxer.
        learn: whether the keys are trained.
        layers: of the ``index_pos`` demuxer, the retrieval head's last one included.
        values: the whole file.
    """

    family: Literal["roberta", "bert"]
    task: Literal["sequence", "token"]
    n: int
    muxing: str
    demuxing: str
    learn: bool
    layers: int
    values: dict[str, Any] = field(repr=False)


def read_config(folder: Path, architecture: str | None) -> MuxConfig:
    """Read the config in a folder.

    Args:
        folder: a checkpoint in the hub's layout.
        architecture: the published class, where the config does not name it.

    Raises:
        MuxwrapError: there is no config, a key is missing, or a value is unknown.
    """
    values = _read(folder)
    for key in ("num_instances", "muxing_variant", "demuxing_variant"):
        if key not in values:
            raise MuxwrapError(f"{folder / CONFIG} has no {key!r}; it is not the config of a DataMUX or MUX-PLM model")
    named = architecture if architecture is not None else next(iter(values.get("architectures") or ()), None)
    named = _BACKBONES.get(str(named), named)
    if named is None:
        raise MuxwrapError(
            f"{folder / CONFIG} does not name an architecture; give architecture=. {known_names('', ARCHITECTURES)}"
        )
    if named not in ARCHITECTURES:
        raise MuxwrapError(
            f"the architecture {named!r} cannot be read (pre-training and ELECTRA models cannot); "
            f"{known_names(named, ARCHITECTURES)}"
        )
    family, task = ARCHITECTURES[named]
    muxing, demuxing = values["muxing_variant"], values["demuxing_variant"]
    for key, value, known in (
        ("muxing_variant", muxing, VARIANTS[family]),
        ("demuxing_variant", demuxing, DEMUXERS[family]),
    ):
        if value not in known:
            raise MuxwrapError(f"{key}={value!r} of a {named} is unknown; {known_names(value, known)}")
    if muxing == "gaussian_attention_v2" and demuxing == "index":
        raise MuxwrapError(
            "muxing_variant='gaussian_attention_v2' with demuxing_variant='index': the published code cannot run it (its "
            "masks lack the prefix)"
        )
    layers = values.get("num_hidden_demux_layers", 2)
    if isinstance(layers, bool) or not isinstance(layers, int) or layers < 2:
        raise MuxwrapError(f"num_hidden_demux_layers={layers!r} in {folder / CONFIG}: it is an int >= 2")
    n = check_count(values["num_instances"])
    return MuxConfig(family, task, n, muxing, demuxing, bool(values.get("learn_muxing", 0)), layers, values)


def _read(folder: Path) -> dict[str, Any]:
    try:
        saved = folder / BACKBONE_CONFIG  # of a backbone with a head of its own
        values = json.loads((saved if saved.exists() else folder / CONFIG).read_text())
    except FileNotFoundError:
        raise MuxwrapError(f"no {CONFIG} there; give the folder of a downloaded checkpoint") from None
    except (ValueError, OSError) as error:
        raise MuxwrapError(f"{folder / CONFIG} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise MuxwrapError(
            f"{folder / CONFIG} holds a {type(values).__name__} instead of an object; give a checkpoint's"
        )
    return values
