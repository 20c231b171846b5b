"""Why mixing can be undone, as code: the exact construction, what breaks it, and the capacity of untrained codes."""

from muxwrap.theory import capacity as capacity
from muxwrap.theory.code import SlotCode as SlotCode
from muxwrap.theory.code import random_frame as random_frame
from muxwrap.theory.cost import Operations as Operations
from muxwrap.theory.cost import operations as operations
from muxwrap.theory.encoder import MultiplexedEncoder as MultiplexedEncoder
from muxwrap.theory.encoder import multiplexed as multiplexed
from muxwrap.theory.inexact import Error as Error
from muxwrap.theory.inexact import full_rank_error as full_rank_error
from muxwrap.theory.inexact import shared_heads_error as shared_heads_error
from muxwrap.theory.inexact import shared_norm_error as shared_norm_error
from muxwrap.theory.layers import GroupedAttention as GroupedAttention
from muxwrap.theory.layers import MultiplexedLayer as MultiplexedLayer
from muxwrap.theory.layers import SlotNorm as SlotNorm
