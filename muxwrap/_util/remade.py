"""Values that a module was made with, given to it again."""

from __future__ import annotations

import torch
from torch import nn

from muxwrap.registry import options_of


class Remade(nn.Module):
    """A module whose constructor arguments are its attributes, and fix every initial value."""

    def reset_parameters(self) -> None:
        """Give parameters and buffers their initial values, those of the seed, as torch's own layers do.

        Loops over folds call it in ``model.apply(...)``, and so do tools that give memory to a model of the device meta.

        Raises:
            MuxwrapError: the module does not keep one of its constructor's arguments.
        """
        new = type(self)(**options_of(self, from_model=()))
        initial = {**dict(new.named_parameters()), **dict(new.named_buffers())}
        with torch.no_grad():
            for name, value in [*self.named_parameters(), *self.named_buffers()]:
                if name in initial:  # a parametrization, or a hook of pruning, keeps others
                    value.copy_(initial[name])
