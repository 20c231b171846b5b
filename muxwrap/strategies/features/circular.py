"""Circular convolution with unitary keys: holographic reduced representations."""

from __future__ import annotations

import torch
from torch import Tensor

from muxwrap.strategies.base import Strategy, registry
from muxwrap.strategies.keys import normal, per_index


@registry.register("circular")
class Circular(Strategy):
    """φ_i(x) = k_i ⊛ x, the circular convolution with a key of flat spectrum (Plate's HRR; MIMONets' PWHRR).

    In the Fourier domain it turns the phase of every frequency of x by a random angle. Keys are kept as real vectors
    and their spectrum is brought to magnitude 1 whenever it is used, so that keys stay unitary, and ``bind`` an
    isometry with correlation as its exact inverse, in training too. (The keys are real because a cast of the model to
    bfloat16 would drop the imaginary part of a complex buffer.)
    Cost: one FFT per instance and position and one inverse per mixture, O(dim·log dim), always in float32 or float64: half
    precision has no FFT.

    Args:
        n: instances in a mixture.
        dim: size of the feature axis.
        learnable: train the keys; the phases learn, except those of the lowest frequency and, at an even dim, of the
            highest, which are signs.
        scale: see :class:`~muxwrap.strategies.Strategy`; MIMONets uses ``"sum"``.
        seed: fixes the keys.

    Raises:
        MuxwrapError: a bad ``n``, ``dim`` or ``scale``.
    """

    invertible = True
    isometric = True
    additive = True
    keys: Tensor

    def __init__(
        self, n: int, dim: int, *, learnable: bool = False, scale: str | float = "sqrt", seed: int = 0
    ) -> None:
        super().__init__(n, dim, learnable=learnable, scale=scale, seed=seed)
        self.isometric = True  # learned keys are unitary, too
        # Kept with their spectrum flat already: phases learn at the rate 1/magnitude.
        self.set_keys("keys", torch.fft.irfft(_phases(normal(seed, n, dim)), n=dim))

    def bind(self, x: Tensor) -> Tensor:
        """Convolve instance i with k_i: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        spectrum = _to_frequencies(x)
        return self._to_features(spectrum * per_index(self._keys(spectrum), spectrum), x.dtype)

    def unbind(self, z: Tensor) -> Tensor:
        """Correlate entry i with k_i, the inverse: ``[g, n, ..., dim] -> [g, n, ..., dim]``."""
        spectrum = _to_frequencies(z)
        return self._to_features(spectrum * per_index(self._keys(spectrum), spectrum).conj(), z.dtype)

    def mix(self, x: Tensor, start: int = 0) -> Tensor:
        """Accumulate in the frequency domain, and transform back once per mixture."""
        first = _to_frequencies(x[:, 0])
        keys = self._keys(first)[start:] * self.factor
        mixture = first * keys[0]
        for i in range(1, x.shape[1]):
            mixture = mixture + _to_frequencies(x[:, i]) * keys[i]
        return self._to_features(mixture, x.dtype)

    def separate(self, mixture: Tensor) -> Tensor:
        """Unbind every index, with one forward transform: ``[g, ..., dim] -> [g, n, ..., dim]``."""
        spectrum = (_to_frequencies(mixture) / self.factor).unsqueeze(1)
        return self._to_features(spectrum * per_index(self._keys(spectrum), spectrum).conj(), mixture.dtype)

    def key_penalty(self) -> Tensor:
        """Return MIMONets' regulariser of learned keys; add it to the loss, with the weight 0.1 there.

        The mean of cos²(k_i, k_j) over pairs, plus the mean of (‖k_i‖ - 1)² of the keys as they are stored. The norm is
        set to 1 wherever keys are used; the second term keeps the stored ones near it, where phases learn at an even
        rate.
        """
        norms = self.keys.norm(dim=1)
        units = self.keys / norms.unsqueeze(1)
        cosines = units @ units.T
        pairs = max(1, self.n * (self.n - 1))
        return (cosines.square().sum() - cosines.diagonal().square().sum()) / pairs + (norms - 1).square().mean()

    def _keys(self, spectrum: Tensor) -> Tensor:
        """Return the keys' unit spectrum ``[n, dim//2 + 1]`` in the precision of ``spectrum``."""
        return _phases(self.keys.to(spectrum.real.dtype))

    def _to_features(self, spectrum: Tensor, dtype: torch.dtype) -> Tensor:
        features: Tensor = torch.fft.irfft(spectrum, n=self.dim)
        return features.to(dtype)


def _to_frequencies(x: Tensor) -> Tensor:
    # An explicit cast is enough: autocast lowers no operation that is used here.
    spectrum: Tensor = torch.fft.rfft(x.to(torch.promote_types(x.dtype, torch.float32)))
    return spectrum


def _phases(keys: Tensor) -> Tensor:
    """Return the spectrum of ``keys`` with every magnitude set to 1; a frequency of magnitude 0 becomes 1."""
    angles = torch.fft.rfft(keys).angle()
    return torch.polar(torch.ones_like(angles), angles)
