"""φ: how instances are bound to their index and combined. One strategy per file."""

from muxwrap.strategies.base import Strategy as Strategy
from muxwrap.strategies.base import registry as registry
from muxwrap.strategies.features.binary import Binary as Binary
from muxwrap.strategies.features.circular import Circular as Circular
from muxwrap.strategies.features.hadamard import Hadamard as Hadamard
from muxwrap.strategies.features.identity import Identity as Identity
from muxwrap.strategies.features.low_rank import LowRank as LowRank
from muxwrap.strategies.features.orthogonal import Orthogonal as Orthogonal
from muxwrap.strategies.features.permutation import Permutation as Permutation
from muxwrap.strategies.features.reversible import Reversible as Reversible
from muxwrap.strategies.features.sign import Sign as Sign
from muxwrap.strategies.features.slots import Slots as Slots
from muxwrap.strategies.features.walsh import Walsh as Walsh
from muxwrap.strategies.images.channels import Channels as Channels
from muxwrap.strategies.images.kernels import Kernels as Kernels
from muxwrap.strategies.images.layout import Layout as Layout
from muxwrap.strategies.images.nonlinear import Nonlinear as Nonlinear
from muxwrap.strategies.images.pixel_rotation import PixelRotation as PixelRotation
from muxwrap.strategies.images.remap import Remap as Remap
from muxwrap.strategies.images.rotation import Rotation as Rotation
from muxwrap.strategies.tokens.concat import Concat as Concat
from muxwrap.strategies.tokens.contextual import Contextual as Contextual
from muxwrap.strategies.tokens.pool import Pool as Pool
