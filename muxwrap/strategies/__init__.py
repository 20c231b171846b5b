"""φ: how instances are bound to their index and combined. One strategy a file."""

from muxwrap.strategies.base import Strategy as Strategy
from muxwrap.strategies.base import strategies as strategies
from muxwrap.strategies.binary import Binary as Binary
from muxwrap.strategies.circular import Circular as Circular
from muxwrap.strategies.hadamard import Hadamard as Hadamard
from muxwrap.strategies.identity import Identity as Identity
from muxwrap.strategies.low_rank import LowRank as LowRank
from muxwrap.strategies.orthogonal import Orthogonal as Orthogonal
from muxwrap.strategies.permutation import Permutation as Permutation
from muxwrap.strategies.sign import Sign as Sign
from muxwrap.strategies.slots import Slots as Slots
from muxwrap.strategies.walsh import Walsh as Walsh
