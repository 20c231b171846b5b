"""What a trained model can become: accuracy against measured speed, multiplexed and beside its rivals."""

from muxwrap.frontiers.call import frontier as frontier
from muxwrap.frontiers.candidates import Skipped as Skipped
from muxwrap.frontiers.point import Point as Point
from muxwrap.frontiers.registry import Subject as Subject
from muxwrap.frontiers.registry import Variant as Variant
from muxwrap.frontiers.registry import list_rivals as list_rivals
from muxwrap.frontiers.registry import register_rival as register_rival
from muxwrap.frontiers.result import Frontier as Frontier
