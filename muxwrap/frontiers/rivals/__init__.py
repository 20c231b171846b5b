"""The rivals that come with the chart, one a file; importing them registers them."""

from muxwrap.frontiers.rivals import class_token as class_token
from muxwrap.frontiers.rivals import int8 as int8
from muxwrap.frontiers.rivals import layers as layers
from muxwrap.frontiers.rivals import narrower as narrower
from muxwrap.frontiers.rivals import shorter as shorter
