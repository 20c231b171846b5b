"""φ: how instances are bound to their index and combined. One strategy a file."""

from muxwrap.strategies.base import Strategy as Strategy
from muxwrap.strategies.base import strategies as strategies
from muxwrap.strategies.binary import Binary as Binary
from muxwrap.strategies.channels import Channels as Channels
from muxwrap.strategies.circular import Circular as Circular
from muxwrap.strategies.concat import Concat as Concat
from muxwrap.strategies.contextual import Contextual as Contextual
from muxwrap.strategies.hadamard import Hadamard as Hadamard
from muxwrap.strategies.identity import Identity as Identity
from muxwrap.strategies.kernels import Kernels as Kernels
from muxwrap.strategies.layout import Layout as Layout
from muxwrap.strategies.low_rank import LowRank as LowRank
from muxwrap.strategies.nonlinear import Nonlinear as Nonlinear
from muxwrap.strategies.nonlinear import NonlinearExpand as NonlinearExpand
from muxwrap.strategies.orthogonal import Orthogonal as Orthogonal
from muxwrap.strategies.permutation import Permutation as Permutation
from muxwrap.strategies.pixel_rotation import PixelRotation as PixelRotation
from muxwrap.strategies.remap import Remap as Remap
from muxwrap.strategies.rotation import Rotation as Rotation
from muxwrap.strategies.sign import Sign as Sign
from muxwrap.strategies.slots import Slots as Slots
from muxwrap.strategies.spatial import Spatial as Spatial
from muxwrap.strategies.walsh import Walsh as Walsh
