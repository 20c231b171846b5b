"""What a wrapped model does to its instances: data first, and a plot of each."""

from muxwrap.evaluation.accuracy import IndexAccuracy as IndexAccuracy
from muxwrap.evaluation.accuracy import index_accuracy as index_accuracy
from muxwrap.evaluation.companies import CompanySimilarity as CompanySimilarity
from muxwrap.evaluation.companies import company_similarity as company_similarity
from muxwrap.evaluation.distance import StateDistance as StateDistance
from muxwrap.evaluation.distance import state_distance as state_distance
from muxwrap.evaluation.interference import Interference as Interference
from muxwrap.evaluation.interference import interference as interference
