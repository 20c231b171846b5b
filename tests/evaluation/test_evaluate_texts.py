"""evaluate on texts: batches padded to lengths of their own, with a mask and without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import batch, make
from torch import Tensor

import muxwrap
from muxwrap.evaluation import groupings
from muxwrap.evaluation.batches import Batch
from muxwrap.evaluation.rows import Rows

transformers = pytest.importorskip("transformers")

PAD = 1
SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "num_labels": 3,
    "pad_token_id": PAD,
}


def texts(count: int, seed: int = 0) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 9, (count,), generator=rng).tolist()
    return [torch.randint(2, 30, (length,), generator=rng) for length in lengths]


def padded(rows: list[Tensor], fill: int, left: bool = False) -> Tensor:
    side = "left" if left else "right"
    return torch.nn.utils.rnn.pad_sequence(rows, True, fill, padding_side=side)


def collate(rows: list[Tensor], left: bool = False) -> dict[str, Tensor]:
    mask = padded([torch.ones_like(row) for row in rows], 0, left)
    return {"input_ids": padded(rows, PAD, left), "attention_mask": mask}


def in_batches(rows: list[Tensor], labels: list[Tensor], size: int, left: bool = False) -> list[dict[str, Tensor]]:
    found = []
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        given = torch.stack(labels[part]) if labels[0].ndim == 0 else padded(labels[part], -100, left)
        found.append({**collate(rows[part], left), "labels": given})
    return found


@given(count=st.integers(3, 12), size=st.integers(1, 4), left=st.booleans(), seed=st.integers(0, 99))
def test_rows_are_padded_as_if_they_had_come_together(count: int, size: int, left: bool, seed: int) -> None:
    rows = texts(count, seed)
    labels = [row % 3 for row in rows]
    batches = in_batches(rows, labels, size, left)
    held = Rows([Batch({k: v for k, v in b.items() if k != "labels"}, b["labels"]) for b in batches], PAD)
    if held.padding is None:
        return  # all batches happen to be equally long
    if not held.left and left:
        return  # no row of any batch begins with padding, so the side is not to be seen, and does not matter
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: max(2, count // 2)]
    expected = collate([rows[i] for i in chosen.tolist()], left)
    found = held.take(chosen)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
    assert torch.equal(held.labels_of(chosen), padded([labels[i] for i in chosen.tolist()], -100, left))
    assert torch.equal(held.labels, padded(labels, -100, left))


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_against_a_plain_loop(tokens: bool, n: int) -> None:
    name = "BertForTokenClassification" if tokens else "BertForSequenceClassification"
    model = muxwrap.wrap(getattr(transformers, name)(transformers.BertConfig(**SIZES)), n).eval()
    rows = texts(14)
    labels = [row % 3 if tokens else row[0] % 3 for row in rows]
    lengths = torch.tensor([len(row) for row in rows])
    batches = in_batches(rows, labels, 4)
    scores, per_row = [], []
    for grouping in groupings(14, n, 3, 5, batch=4, lengths=lengths):
        right = {}
        for call in grouping:
            inputs = collate([rows[i] for i in call.tolist()])
            with torch.no_grad():
                answers = model(**inputs).logits.argmax(-1)
            for i, answer in zip(call.tolist(), answers, strict=True):
                right[i] = (answer[: len(rows[i])] if tokens else answer) == labels[i]
        every = torch.cat([right[i].view(-1) for i in range(14)])
        scores.append(every.double().mean().item())
        per_row.append(every)
    found = muxwrap.evaluate(model, batches, groupings=3, seed=5, progress=False)
    assert found.scores == pytest.approx(scores) and len(scores) == (1 if n == 1 else 3)
    shapes = []

    def metric(outputs: Tensor, given: Tensor) -> float:
        shapes.append((list(outputs.shape), list(given.shape)))
        return (outputs.argmax(-1) == given)[given != -100].double().mean().item()

    again = muxwrap.evaluate(model, batches, metric, 3, 5, per_index=False, progress=False)
    assert again.scores == pytest.approx(scores) and again.flips == found.flips
    longest = int(lengths.max())
    assert set(map(str, shapes)) == {str(([14, longest, 3], [14, longest]) if tokens else ([14, 3], [14]))}


def test_padding_on_the_left() -> None:
    """A decoder answers at the last token; the rows alone, without any padding, are what is right."""
    config = transformers.GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, num_labels=3, pad_token_id=PAD)
    model = transformers.GPT2ForSequenceClassification(config).eval()
    rows = texts(9)

    def inputs(part: list[Tensor]) -> dict[str, Tensor]:
        found = collate(part, left=True)
        return {**found, "position_ids": (found["attention_mask"].cumsum(1) - 1).clamp(min=0)}

    with torch.no_grad():
        alone = torch.cat([model(input_ids=row.unsqueeze(0)).logits for row in rows])
    batches = [{**inputs(rows[s : s + 3]), "labels": torch.zeros(3).long()} for s in (0, 3, 6)]
    seen = []
    muxwrap.evaluate(model, batches, lambda outputs, labels: seen.append(outputs) or 0.0, progress=False)
    torch.testing.assert_close(seen[0], alone)


def test_without_a_mask_only_equal_shapes_meet() -> None:
    """What is padding cannot be known then."""
    model = muxwrap.wrap(make("tagger"), 2, example_input=batch("tagger", 1)).eval()
    rng = torch.Generator().manual_seed(0)
    inputs = [torch.randint(30, (rows, length), generator=rng) for rows, length in ((3, 4), (2, 6), (2, 4))]
    lengths: list[int] = []
    handle = model.backbone.embed.register_forward_hook(lambda module, args, output: lengths.append(args[0].shape[1]))
    found = muxwrap.evaluate(model, [(ids, ids % 5) for ids in inputs], groupings=2, progress=False)
    handle.remove()
    assert sorted(lengths) == [4] * 4 + [6] * 2, "calls of 4 and 1 rows of length 4, of 2 rows of length 6"
    assert found.rows == 7 and len(found.scores) == 2


def test_nothing_is_cut_where_all_batches_are_equally_long() -> None:
    rows = texts(6)
    whole = collate(rows)
    halves = [
        Batch({key: value[part] for key, value in whole.items()}, torch.zeros(3)) for part in (slice(3), slice(3, 6))
    ]
    held = Rows(halves, PAD)
    order = torch.tensor([5, 0, 3])
    assert held.lengths is None and torch.equal(held.take(order)["input_ids"], whole["input_ids"][order])


def test_what_belongs_to_no_token_is_left_as_it_is() -> None:
    lengths = (3, 5)
    batches = []
    for k, length in enumerate(lengths):
        tokens = {"input_ids": torch.full((4, length), 7), "attention_mask": torch.ones(4, length)}
        sizes = torch.arange(4 * k, 4 * k + 4.0).view(4, 1).expand(4, 3)
        batches.append(Batch({**tokens, "sizes": sizes, "scale": 2.0}, torch.zeros(4)))
    found = Rows(batches, PAD).take(torch.tensor([6, 1]))
    assert found["input_ids"].tolist() == [[7] * 5, [7] * 3 + [PAD] * 2]
    assert found["sizes"].tolist() == [[6.0] * 3, [1.0] * 3] and found["scale"] == 2.0
