"""How good a wrapped model is over random groupings, and what it does to its instances: data first, and a plot of each."""

from muxwrap.evaluation.companions import CompanionSimilarity as CompanionSimilarity
from muxwrap.evaluation.companions import companion_similarity as companion_similarity
from muxwrap.evaluation.dealing import groupings as groupings
from muxwrap.evaluation.distance import StateDistance as StateDistance
from muxwrap.evaluation.distance import state_distance as state_distance
from muxwrap.evaluation.exchange import Crosstalk as Crosstalk
from muxwrap.evaluation.exchange import crosstalk as crosstalk
from muxwrap.evaluation.index_trace import IndexTrace as IndexTrace
from muxwrap.evaluation.index_trace import index_readable as index_readable
from muxwrap.evaluation.mixture_statistics import MixtureStatistics as MixtureStatistics
from muxwrap.evaluation.mixture_statistics import mixture_statistics as mixture_statistics
from muxwrap.evaluation.result import Evaluation as Evaluation
from muxwrap.evaluation.scores import evaluate as evaluate
