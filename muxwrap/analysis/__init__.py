"""What a wrapped model does to its instances: data first, and a plot of each."""

from muxwrap.analysis.accuracy import IndexAccuracy as IndexAccuracy
from muxwrap.analysis.accuracy import index_accuracy as index_accuracy
from muxwrap.analysis.companies import CompanySimilarity as CompanySimilarity
from muxwrap.analysis.companies import company_similarity as company_similarity
from muxwrap.analysis.distance import StateDistance as StateDistance
from muxwrap.analysis.distance import state_distance as state_distance
from muxwrap.analysis.interference import Interference as Interference
from muxwrap.analysis.interference import interference as interference
