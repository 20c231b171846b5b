"""Read the published text models: DataMUX (NeurIPS 2022) and MUX-PLM (EMNLP Findings 2023).

The checkpoints come back as wrapped Transformers models that compute what the authors' code computes, its oddities
included. Every oddity is a setting of a site, a strategy or a demuxer, and is off for models of your own.
"""

from muxwrap.published.read import backbone, load

__all__ = ["backbone", "load"]
