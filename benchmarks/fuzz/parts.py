"""What random models are made of: lines of Python, as users write them.

A part is a pair of ``__init__`` lines and ``forward`` lines. ``{i}`` is its number, ``{pad}`` the padding (True where nothing
is) or ``None``. Features are 16 wide, sequences 11 long, and no size is a multiple of 7, the largest batch.
"""

from __future__ import annotations

from typing import NamedTuple

Part = tuple[str, str]


class Source(NamedTuple):
    """What comes in: arguments, each with an expression of ``rows`` and its axis of rows, and stems, by what they make."""

    arguments: dict[str, tuple[str, int]]
    stems: dict[str, tuple[str, str, str]]


_EMBED = ("sequence", "self.embed = nn.Embedding(30, 16)", "h = self.embed({ids})")
_IMAGE = ("torch.randn(rows, 2, 16, 16, generator=rng)", 0)
_IDS = ("torch.randint(30, (rows, 11), generator=rng)", 0)
_ID = ("torch.randint(30, (rows,), generator=rng)", 0)
_SEQUENCE = ("torch.randn(rows, 11, 6, generator=rng)", 0)

SOURCES = {
    "vector": Source(
        {"x": ("torch.randn(rows, 12, generator=rng)", 0)},
        {
            "linear": ("vector", "self.stem = nn.Linear(12, 16)", "h = torch.tanh(self.stem({x}))"),
            "block": (
                "vector",
                "self.stem = nn.Sequential(nn.BatchNorm1d(12), nn.Linear(12, 16), nn.Tanh())",
                "h = self.stem({x})",
            ),
            "weight norm": (
                "vector",
                "self.stem = nn.utils.parametrizations.weight_norm(nn.Linear(12, 16))",
                "h = torch.tanh(self.stem({x}))",
            ),
            "functional": (
                "vector",
                "self.stem = nn.Parameter(torch.randn(12, 16) / 3)",
                "h = torch.tanh({x} @ self.stem)",
            ),
        },
    ),
    "sequence": Source(
        {"x": _SEQUENCE},
        {
            "linear": ("sequence", "self.stem = nn.Linear(6, 16)", "h = self.stem({x})"),
            "lstm": ("sequence", "self.stem = nn.LSTM(6, 16, batch_first=True)", "h, _ = self.stem({x})"),
            "gru over time": ("steps", "self.stem = nn.GRU(6, 16)", "h, _ = self.stem({x}.transpose(0, 1))"),
            "convolution": (
                "signal",
                "self.stem = nn.Conv1d(6, 16, 3, padding=1)",
                "h = torch.tanh(self.stem({x}.transpose(1, 2)))",
            ),
        },
    ),
    "steps": Source(
        {"x": ("torch.randn(11, rows, 6, generator=rng)", 1)},
        {
            "linear": ("steps", "self.stem = nn.Linear(6, 16)", "h = self.stem({x})"),
            "lstm": ("steps", "self.stem = nn.LSTM(6, 16)", "h, _ = self.stem({x})"),
            "rows first": ("sequence", "self.stem = nn.Linear(6, 16)", "h = self.stem({x}.transpose(0, 1))"),
        },
    ),
    "signal": Source(
        {"x": ("torch.randn(rows, 2, 32, generator=rng)", 0)},
        {
            "convolution": (
                "signal",
                "self.stem = nn.Conv1d(2, 16, 5, stride=2, padding=2)",
                "h = torch.tanh(self.stem({x}))",
            ),
            "weight norm": (
                "signal",
                "self.stem = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 16, 5, padding=2))",
                "h = torch.tanh(self.stem({x}))",
            ),
        },
    ),
    "image": Source(
        {"image": _IMAGE},
        {
            "convolution": ("map", "self.stem = nn.Conv2d(2, 16, 3, padding=1)", "h = torch.tanh(self.stem({image}))"),
            "block": (
                "map",
                "self.stem = nn.Sequential(nn.Conv2d(2, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.GELU())",
                "h = self.stem({image})",
            ),
            "patches": (
                "sequence",
                "self.stem = nn.Conv2d(2, 16, 4, 4)",
                "h = self.stem({image}).flatten(2).transpose(1, 2)",
            ),
            "spectral norm": (
                "map",
                "self.stem = nn.utils.parametrizations.spectral_norm(nn.Conv2d(2, 16, 3, padding=1))",
                "h = torch.tanh(self.stem({image}))",
            ),
        },
    ),
    "tokens": Source(
        {"ids": _IDS},
        {
            "embedding": _EMBED,
            "embedding and positions": (
                "sequence",
                "self.embed = nn.Embedding(30, 16)\nself.positions = nn.Embedding(11, 16)",
                "h = self.embed({ids}) + self.positions(torch.arange(11))",
            ),
            "padded embedding": (
                "sequence",
                "self.embed = nn.Embedding(30, 16, padding_idx=0)\nself.norm = nn.LayerNorm(16)",
                "h = self.norm(self.embed({ids}) * 4.0)",
            ),
        },
    ),
    "two ids": Source(
        {"user": _ID, "item": _ID},
        {
            "embeddings": (
                "vector",
                "self.users, self.items = nn.Embedding(30, 8), nn.Embedding(30, 8)",
                "h = torch.cat([self.users({user}), self.items({item})], -1)",
            ),
            "sum": (
                "vector",
                "self.users, self.items = nn.Embedding(30, 16), nn.Embedding(30, 16)",
                "h = self.users({user}) + self.items({item})",
            ),
        },
    ),
    "columns": Source(
        {
            "colour": _ID,
            "shape": _ID,
            "weight": ("torch.randn(rows, generator=rng)", 0),
            "rest": ("torch.randn(rows, 4, generator=rng)", 0),
        },
        {
            "joined": (
                "vector",
                "self.columns = nn.ModuleList(nn.Embedding(30, 4) for _ in range(2))\nself.join = nn.Linear(13, 16)",
                "parts = [self.columns[0]({colour}), self.columns[1]({shape}), {weight}.unsqueeze(-1), {rest}]\n"
                "h = torch.tanh(self.join(torch.cat(parts, -1)))",
            ),
        },
    ),
    "image and table": Source(
        {"image": _IMAGE, "table": ("torch.randn(rows, 6, generator=rng)", 0)},
        {
            "two branches": (
                "vector",
                "self.eye = nn.Sequential(nn.Conv2d(2, 8, 3, 2, 1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
                "self.numbers = nn.Sequential(nn.Linear(6, 8), nn.GELU())",
                "h = torch.cat([self.eye({image}), self.numbers({table})], -1)",
            ),
            "late table": (
                "map",
                "self.stem = nn.Conv2d(2, 16, 3, padding=1)\nself.numbers = nn.Linear(6, 16)",
                "h = torch.tanh(self.stem({image})) + self.numbers({table})[:, :, None, None]",
            ),
        },
    ),
    "sequence and step": Source(
        {"x": _SEQUENCE, "step": ("torch.rand(rows, generator=rng)", 0)},
        {
            "time condition": (
                "sequence",
                "self.stem = nn.Linear(6, 16)\nself.time = nn.Linear(1, 16)",
                "h = self.stem({x}) + self.time({step}[:, None])[:, None]",
            ),
        },
    ),
}

_MLP = "nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16))"

_ANYWHERE: dict[str, Part] = {
    "dropout": ("self.part{i} = nn.Dropout(0.1)", "h = self.part{i}(h)"),
    "buffer": (
        'self.register_buffer("scale{i}", torch.tensor(1.5))\nself.shift{i} = nn.Parameter(torch.zeros(1))',
        "h = h * self.scale{i} + self.shift{i}",
    ),
    "again": ("", ""),  # the lines before once more: a shared layer
}
_LAST_AXIS: dict[str, Part] = {
    "linear": ("self.part{i} = nn.Linear(16, 16)", "h = torch.tanh(self.part{i}(h))"),
    "residual": (f"self.part{{i}} = {_MLP}", "h = h + self.part{i}(h)"),
    "loop": (
        "self.part{i} = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))",
        "for layer in self.part{i}:\n    h = h + torch.tanh(layer(h))",
    ),
    "branches": (
        "self.left{i}, self.right{i} = nn.Linear(16, 8), nn.Sequential(nn.Linear(16, 8), nn.GELU())",
        "h = torch.cat([self.left{i}(h), self.right{i}(h)], -1)",
    ),
    "layer norm": ("self.part{i} = nn.LayerNorm(16)", "h = self.part{i}(h)"),
    "functional": (
        "self.weight{i} = nn.Parameter(torch.randn(16, 16) / 4)",
        "h = torch.tanh(F.linear(h, self.weight{i}))",
    ),
    "weight norm": (
        "self.part{i} = nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))",
        "h = torch.tanh(self.part{i}(h))",
    ),
    "spectral norm": (
        "self.part{i} = nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16))",
        "h = h + self.part{i}(h)",
    ),
    "experts": (
        "self.gate{i} = nn.Linear(16, 2)\nself.experts{i} = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))",
        "gates = torch.softmax(self.gate{i}(h), -1)\n"
        "h = sum(gates[..., k : k + 1] * torch.tanh(e(h)) for k, e in enumerate(self.experts{i}))",
    ),
}

BLOCKS: dict[str, dict[str, Part]] = {
    "vector": {
        **_ANYWHERE,
        **_LAST_AXIS,
        "batch norm": ("self.part{i} = nn.BatchNorm1d(16)", "h = self.part{i}(h)"),
        "group norm": ("self.part{i} = nn.GroupNorm(4, 16)", "h = self.part{i}(h)"),
        "normalized": ("", "h = 4 * F.normalize(h, dim=-1)"),
    },
    "sequence": {
        **_ANYWHERE,
        **_LAST_AXIS,
        "attention": (
            "self.part{i} = nn.MultiheadAttention(16, 2, batch_first=True)",
            "h = h + self.part{i}(h, h, h, key_padding_mask={pad})[0]",
        ),
        "attention over time": (
            "self.part{i} = nn.MultiheadAttention(16, 2)",
            "t = h.transpose(0, 1)\nt = t + self.part{i}(t, t, t, key_padding_mask={pad}, need_weights=False)[0]\n"
            "h = t.transpose(0, 1)",
        ),
        "encoder layer": (
            "self.part{i} = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)",
            "h = self.part{i}(h, src_key_padding_mask={pad})",
        ),
        "encoder": (
            "self.part{i} = nn.TransformerEncoder(\n"
            "    nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, norm_first=True),\n"
            "    2,\n    enable_nested_tensor=False,\n)",
            "h = self.part{i}(h, src_key_padding_mask={pad})",
        ),
        "own attention": (
            "self.part{i} = nn.Linear(16, 48)",
            "q, k, v = self.part{i}(h).chunk(3, -1)\nh = h + F.scaled_dot_product_attention(q, k, v)",
        ),
        "lstm": ("self.part{i} = nn.LSTM(16, 8, batch_first=True, bidirectional=True)", "h, _ = self.part{i}(h)"),
        "gru over time": (
            "self.part{i} = nn.GRU(16, 16)",
            "t, _ = self.part{i}(h.transpose(0, 1))\nh = t.transpose(0, 1)",
        ),
        "cell": (
            "self.part{i} = nn.GRUCell(16, 16)",
            "state = torch.zeros_like(h[:, 0])\nfor t in range(h.shape[1]):\n    state = self.part{i}(h[:, t], state)\n"
            "h = h + state[:, None]",
        ),
        "convolution": (
            "self.part{i} = nn.Conv1d(16, 16, 3, padding=1)",
            "h = torch.tanh(self.part{i}(h.transpose(1, 2)).transpose(1, 2))",
        ),
        "one by one": (
            "self.part{i} = nn.Linear(16, 16)",
            "b = h.shape[0]\nh = h + self.part{i}(h.reshape(-1, 16)).reshape(b, -1, 16)",
        ),
    },
    "steps": {
        **_ANYWHERE,
        **_LAST_AXIS,
        "attention": (
            "self.part{i} = nn.MultiheadAttention(16, 2)",
            "h = h + self.part{i}(h, h, h, need_weights=False)[0]",
        ),
        "gru": ("self.part{i} = nn.GRU(16, 16)", "h, _ = self.part{i}(h)"),
    },
    "signal": {
        **_ANYWHERE,
        "convolution": (
            "self.part{i} = nn.Conv1d(16, 16, 3, padding=1)",
            "h = torch.tanh(self.part{i}(h))",
        ),
        "residual": (
            "self.part{i} = nn.Sequential(nn.BatchNorm1d(16), nn.GELU(), nn.Conv1d(16, 16, 3, padding=1))",
            "h = h + self.part{i}(h)",
        ),
        "batch norm": ("self.part{i} = nn.BatchNorm1d(16)", "h = self.part{i}(h)"),
        "group norm": ("self.part{i} = nn.GroupNorm(4, 16)", "h = self.part{i}(h)"),
    },
    "map": {
        **_ANYWHERE,
        "convolution": ("self.part{i} = nn.Conv2d(16, 16, 3, padding=1)", "h = torch.tanh(self.part{i}(h))"),
        "residual": (
            "self.part{i} = nn.Sequential(\n"
            "    nn.Conv2d(16, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24), nn.GELU(), nn.Conv2d(24, 16, 1)\n)",
            "h = F.gelu(h + self.part{i}(h))",
        ),
        "branches": (
            "self.near{i}, self.far{i} = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 8, 5, padding=2)",
            "h = torch.cat([self.near{i}(h), self.far{i}(h)], 1)",
        ),
        "depthwise": (
            "self.depth{i}, self.point{i} = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 16, 1)",
            "h = h + self.point{i}(F.gelu(self.depth{i}(h)))",
        ),
        "squeeze and excite": (
            "self.part{i} = nn.Sequential(nn.Conv2d(16, 4, 1), nn.GELU(), nn.Conv2d(4, 16, 1), nn.Sigmoid())",
            "h = h * self.part{i}(h.mean((2, 3), keepdim=True))",
        ),
        "weight norm": (
            "self.part{i} = nn.utils.parametrizations.weight_norm(nn.Conv2d(16, 16, 3, padding=1))",
            "h = torch.tanh(self.part{i}(h))",
        ),
        "instance norm": ("self.part{i} = nn.InstanceNorm2d(16, affine=True)", "h = self.part{i}(h)"),
        "group norm": ("self.part{i} = nn.GroupNorm(4, 16)", "h = self.part{i}(h)"),
        "smaller": ("", "h = F.avg_pool2d(h, 2) if h.shape[-1] > 4 else h"),
        "up and down": (
            "self.down{i}, self.up{i} = nn.Conv2d(16, 24, 2, 2), nn.ConvTranspose2d(24, 16, 2, 2)",
            "h = h + self.up{i}(F.gelu(self.down{i}(h)))",
        ),
    },
}

RARE: dict[str, dict[str, Part]] = {
    "vector": {
        "rows compared": ("", "h = h + torch.softmax(h @ h.T, -1) @ h"),
        "centred": ("", "h = h - h.mean(0, keepdim=True)"),
        "noise": ("", "h = h + 0.1 * torch.randn_like(h)"),
    },
    "sequence": {
        "attention over rows": (
            "self.part{i} = nn.MultiheadAttention(16, 2)",
            "h = h + self.part{i}(h, h, h, need_weights=False)[0]",
        ),
        "noise": ("", "h = h + 0.1 * torch.randn_like(h)"),
    },
}
"""Blocks in which rows depend on each other, or on chance."""

POOLS = {
    "vector": {"none": "h"},
    "sequence": {
        "mean": "h.mean(1)",
        "first": "h[:, 0]",
        "last": "h[:, -1]",
        "max": "h.amax(1)",
        "flatten": "h.flatten(1)[:, :16]",
        "none": "h",
    },
    "steps": {"mean": "h.mean(0)", "last": "h[-1]"},
    "signal": {"mean": "h.mean(2)", "squeeze": "F.adaptive_avg_pool1d(h, 1).squeeze()"},
    "map": {
        "mean": "h.mean((2, 3))",
        "flatten": "torch.flatten(F.adaptive_avg_pool2d(h, 1), 1)",
        "squeeze": "F.adaptive_avg_pool2d(h, 1).squeeze()",
        "max": "h.amax((2, 3))",
    },
}

HEADS: dict[str, Part] = {
    "linear": ("self.head = nn.Linear(16, 5)", "y = self.head(p)"),
    "mlp": ("self.head = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 5))", "y = self.head(p)"),
    "functional": ("self.head = nn.Parameter(torch.randn(5, 16) / 4)", "y = F.linear(p, self.head)"),
    "one number": ("self.head = nn.Linear(16, 1)", "y = self.head(p).squeeze(-1)"),
    "two": ("self.head, self.other = nn.Linear(16, 5), nn.Linear(16, 3)", "y, z = self.head(p), self.other(p)"),
    "cosine": (
        "self.head = nn.Parameter(torch.randn(5, 16))",
        "y = F.normalize(p, dim=-1) @ F.normalize(self.head, dim=-1).T",
    ),
    "weight norm": ("self.head = nn.utils.parametrizations.weight_norm(nn.Linear(16, 5))", "y = self.head(p)"),
    "probabilities": ("self.head = nn.Linear(16, 5)", "y = torch.softmax(self.head(p), -1)"),
    "tied": ("", "y = F.linear(p, self.embed.weight)"),  # for token ids only
    "embedding": ("", "y = p"),
}

MIXED_AT = {
    "embedding": ("embed",),
    "embedding and positions": ("embed",),
    "padded embedding": ("norm",),
    "embeddings": ("users", "items"),
    "sum": ("users", "items"),
    "joined": ("join",),
    "two branches": ("eye", "numbers"),
    "late table": ("stem", "numbers"),
    "time condition": ("stem", "time"),
}
"""Where a user would mix, by stem; ``stem`` elsewhere."""

SEPARATED_AT = {
    "linear": ("head",),
    "mlp": ("head",),
    "one number": ("head",),
    "two": ("head", "other"),
    "weight norm": ("head",),
    "probabilities": ("head",),
}
"""Where a user would separate, by head."""

LIGHT = {
    "dropout",
    "buffer",
    "again",
    "layer norm",
    "batch norm",
    "group norm",
    "instance norm",
    "normalized",
    "smaller",
}
"""Blocks without products of matrices; a trunk of nothing else has no share of those."""
