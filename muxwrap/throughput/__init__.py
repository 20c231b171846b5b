"""Speed and memory: measured in one run beside the bare model, and predicted before anything is trained."""

from muxwrap.throughput.compare import compare as compare
from muxwrap.throughput.dtypes import bfloat16_instructions as bfloat16_instructions
from muxwrap.throughput.measure import compare_dtypes as compare_dtypes
from muxwrap.throughput.measure import measure as measure
from muxwrap.throughput.predict import Machine as Machine
from muxwrap.throughput.predict import predict as predict
from muxwrap.throughput.report import Cell as Cell
from muxwrap.throughput.report import Report as Report
from muxwrap.throughput.timing import Configuration as Configuration
