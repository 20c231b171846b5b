"""Tokens pooled between the layers of a trunk: what comes back is what the bare model says of fewer tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import timm
import torch
import transformers
from helpers import numbers
from texts import sentences, tiny
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import muxwrap
from muxwrap.errors import MuxwrapError
from muxwrap.strategies import Pool

FAMILIES = ["bert", "roberta", "distilbert", "electra", "mpnet", "modernbert", "deberta", "deberta-v2"]
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 8,
    "max_relative_positions": 20,
}
LENGTHS = (9, 5, 7, 3, 12)


def double(model: Any) -> Any:
    return model.double().eval()


def trunk(task: str, family: str) -> tuple[Any, Any]:
    """Return a tiny model and the strategy that fits its layers' masks."""
    if "deberta" not in family:
        return double(tiny(task, family)), "pool"
    return double(tiny(task, family, **RELATIVE)), partial(Pool, proportional=False)


def logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


class TestMeans:
    """The mixture itself."""

    def test_neighbours_are_averaged_and_the_first_token_stays(self) -> None:
        x = numbers(0, 2, 3, 8, 5)
        mixture = Pool(3, 5)(x)
        assert mixture.shape == (2, 3 * 4, 5) and Pool(3, 5).length(8) == 12
        for i in range(3):
            own = mixture[:, 4 * i : 4 * i + 4]
            expected = [x[:, i, 0], x[:, i, 1:4].mean(1), x[:, i, 4:7].mean(1), x[:, i, 7]]
            assert_close(own, torch.stack(expected, 1))

    def test_padding_is_in_no_mean_and_takes_no_place(self) -> None:
        x, mask = numbers(0, 1, 2, 6, 4), torch.tensor([[[1, 1, 0, 1, 1, 0], [1, 1, 1, 0, 0, 0]]])
        mixture = Pool(2, 4)(x, mask)
        expected = [x[0, 0, 0], x[0, 0, [1, 3]].mean(0), x[0, 0, 4], x[0, 1, 0], x[0, 1, 1:3].mean(0)]
        assert_close(mixture[0], torch.stack(expected))

    def test_nothing_is_pooled_across_a_separator(self) -> None:
        x, ids = numbers(0, 1, 1, 8, 4), torch.tensor([[[1, 5, 6, 7, 2, 8, 9, 2]]])
        pool = Pool(2, 4, separators=(2,))
        pool.n = 2
        places = pool.place(x.expand(-1, 2, -1, -1), ids=ids.expand(-1, 2, -1))
        assert places.at[0, 0].tolist() == [0, 1, 1, 2, 3, 4, 4, 5]

    def test_patches_are_pooled_in_windows(self) -> None:
        x = numbers(0, 1, 4, 1 + 4 * 6, 3)
        mixture = Pool(4, 3, grid=(4, 6))(x).unflatten(1, (4, -1))
        image = x[:, :, 1:].unflatten(2, (4, 6)).movedim(-1, 2).flatten(0, 1)
        means = torch.nn.functional.avg_pool2d(image, 2).flatten(2).transpose(1, 2)
        assert_close(mixture[0, :, 1:], means)
        assert_close(mixture[0, :, 0], x[0, :, 0])

    def test_another_image_than_the_grid_says(self) -> None:
        with pytest.raises(MuxwrapError, match=r"is for 25 tokens and got 30"):
            Pool(4, 3, grid=(4, 6))(numbers(0, 1, 4, 30, 3))


@pytest.mark.parametrize("family", FAMILIES)
class TestTrunks:
    """Laws of a multiplexed trunk, in every family of text models that gives its layers masks."""

    def test_one_instance_of_one_token_a_mean_is_the_bare_model(self, family: str) -> None:
        (bare, pool), batch = trunk("sequence", family), sentences(LENGTHS)
        expected = logits(bare, batch)
        assert_close(logits(muxwrap.wrap(bare, 1, pool), batch), expected)

    def test_an_answer_does_not_depend_on_the_companions(self, family: str) -> None:
        (bare, pool), batch = trunk("token", family), sentences(LENGTHS)
        model = muxwrap.wrap(bare, 3, pool)
        together = logits(model, batch)
        for row, length in enumerate(LENGTHS):
            alone = {name: value[row : row + 1, :length] for name, value in batch.items()}
            assert_close(logits(model, alone)[0], together[row, :length], atol=1e-6, rtol=1e-6)


def test_equal_tokens_are_answered_as_before() -> None:
    for task in ("sequence", "token"):
        bare = double(tiny(task, "bert"))
        with torch.no_grad():  # without positions the words of one kind are equal
            bare.bert.embeddings.position_embeddings.weight.zero_()
        ids = torch.full((5, 11), 12)
        ids[:, 0] = torch.arange(5)
        ids[2:, 1:] = 17
        batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        batch["attention_mask"][3, 6:] = 0
        expected, real = logits(bare, batch), batch["attention_mask"].bool()
        for n in (2, 4):
            model = muxwrap.wrap(bare, n, "pool", mux_at="bert.encoder.layer.0@input")
            mixed = logits(model, batch)
            muxwrap.unwrap(model)
            assert_close(*((x if task == "sequence" else x[real]) for x in (mixed, expected)))
        plain = muxwrap.wrap(bare, 4, partial(Pool, proportional=False), mux_at="bert.encoder.layer.0@input")
        assert not torch.allclose(logits(plain, batch)[0], expected[0], atol=1e-4)


def test_instances_that_are_not_isolated_meet() -> None:
    bare, batch = double(tiny("sequence", "bert")), sentences(LENGTHS)
    model = muxwrap.wrap(bare, 3, partial(Pool, isolated=False))
    alone = {name: value[:1, : LENGTHS[0]] for name, value in batch.items()}
    assert not torch.allclose(logits(model, batch)[:1], logits(model, alone), atol=1e-3)


class TestUse:
    """What people do with a wrapped model."""

    def test_gradients_are_those_of_differences(self) -> None:
        bare, batch = double(tiny("sequence", "bert")), sentences(LENGTHS)
        model = muxwrap.wrap(bare, 2, "pool")
        embeds = bare.bert.embeddings.word_embeddings(batch.pop("input_ids")).detach().requires_grad_()
        assert torch.autograd.gradcheck(
            lambda x: model(inputs_embeds=x, **batch).logits, (embeds,), fast_mode=True, atol=1e-4
        )

    def test_checkpointed_layers_of_transformers_have_the_same_gradients(self) -> None:
        grads = []
        for on in (False, True):
            bare = tiny("sequence", "bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
            for layer in bare.bert.encoder.layer:
                layer.gradient_checkpointing = on
                layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            model = muxwrap.wrap(bare, 2, "pool").train()
            model(**sentences(LENGTHS)).logits.square().sum().backward()
            grads.append([parameter.grad for parameter in model.parameters()])
        assert_close(*grads)

    def test_layers_whose_hooks_run_again_in_backward_are_refused(self) -> None:
        model = muxwrap.wrap(timm.create_model("test_vit", num_classes=10, img_size=64), 4, "pool").train()
        model.backbone.set_grad_checkpointing()
        loss = model(numbers(0, 6, 3, 64, 64, dtype=torch.float32)).sum()
        with pytest.raises(MuxwrapError, match=r"checkpoint the whole wrapped model"):
            loss.backward()

    def test_saved_and_loaded(self, tmp_path: Any) -> None:
        batch = sentences(LENGTHS)
        model = muxwrap.wrap(tiny("sequence", "bert"), 2, partial(Pool, separators=(11,)))
        model.save_pretrained(tmp_path)
        loaded = muxwrap.load(tmp_path, tiny("sequence", "bert")).eval()
        assert loaded.strategy.separators == (11,)
        assert_close(logits(loaded, batch), logits(model, batch))

    def test_n_may_change_between_calls(self) -> None:
        batch = sentences(LENGTHS)
        model = muxwrap.wrap(double(tiny("sequence", "bert")), (2, 4), "pool")
        for n in (4, 2):
            model.n = n
            assert_close(logits(model, batch), logits(muxwrap.wrap(double(tiny("sequence", "bert")), n, "pool"), batch))

    def test_compiles_in_one_graph(self) -> None:
        torch._dynamo.reset()
        model, batch = muxwrap.wrap(double(tiny("sequence", "bert")), 3, "pool"), sentences(LENGTHS)
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        assert_close(logits(compiled, batch), logits(model, batch))

    def test_other_demuxers_are_refused(self) -> None:
        with pytest.raises(MuxwrapError, match=r"leave demux='mlp' out"):
            muxwrap.wrap(tiny("sequence", "bert"), 2, "pool", "mlp")

    def test_a_place_outside_of_layers_is_refused(self) -> None:
        with pytest.raises(MuxwrapError, match=r"'bert.embeddings' is not inside of a list of layers"):
            muxwrap.wrap(tiny("sequence", "bert"), 2, "pool", mux_at="bert.embeddings")

    @pytest.mark.parametrize(
        ("family", "why"),
        [
            ("gpt2", "see nothing of those that come later"),
            ("t5", "not answer them as"),
            ("convbert", "not answer them as"),
        ],
    )
    def test_trunks_that_look_at_more_than_masks_are_refused(self, family: str, why: str) -> None:
        with pytest.raises(MuxwrapError, match=why):
            muxwrap.wrap(tiny("sequence", family), 2, "pool")

    def test_masks_of_0_and_1_are_named_with_the_way_out(self) -> None:
        with pytest.raises(MuxwrapError, match=r"masks of 0 and 1, .*proportional=False"):
            muxwrap.wrap(tiny("sequence", "deberta-v2", **RELATIVE), 2, "pool")

    def test_the_layers_are_found_among_other_lists(self) -> None:
        for family in ("markuplm", "mobilebert"):  # lists of embeddings, and of layers inside of layers
            assert muxwrap.wrap(tiny("sequence", family), 2, "pool").sites.mux[0].path == f"{family}.encoder.layer.0"

    def test_between_attention_and_feed_forward_net(self) -> None:
        model = muxwrap.wrap(tiny("sequence", "bert"), 2, "pool", mux_at="bert.encoder.layer.1.attention")
        assert logits(model, sentences(LENGTHS)).shape == (5, 3)


class Layer(nn.Module):
    """Attention over the tokens that a mask leaves, and a linear layer."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        q = x.unsqueeze(1)
        if attn_mask is not None and attn_mask.ndim == 2:
            attn_mask = attn_mask[:, None, None]
        return x + torch.tanh(self.out(nn.functional.scaled_dot_product_attention(q, q, q, attn_mask).squeeze(1)))

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(8, 8)


class Encoder(nn.Module):
    """A user's own encoder: its mask of padding has a name of its own."""

    def __init__(self, expand: bool) -> None:
        super().__init__()
        self.expand = expand
        self.embed = nn.Embedding(60, 8)
        self.layers = nn.ModuleList([Layer() for _ in range(3)])
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, blank: Tensor | None = None) -> Tensor:
        x = self.embed(ids)
        mask = None if blank is None else ~blank[:, None, None] if self.expand else ~blank
        for layer in self.layers:
            x = layer(x, attn_mask=mask)
        return self.head(x[:, 0])


@pytest.mark.parametrize("expand", [True, False])
def test_padding_is_read_where_only_the_layers_are_told_of_it(expand: bool) -> None:
    torch.manual_seed(0)
    model = muxwrap.wrap(Encoder(expand).double().eval(), 2, "pool", example_input=torch.arange(3, 11)[None])
    ids = torch.arange(10, 50).view(4, 10)
    blank = torch.arange(10) >= torch.tensor([[10], [6], [7], [4]])
    with torch.no_grad():
        padded = model(ids.masked_fill(blank, 1), blank)
        assert_close(model(ids.masked_fill(blank, 2), blank), padded)
        assert_close(model(ids[3:, :4]), padded[3:])


class TorchEncoder(nn.Module):
    """Torch's own layers, whose masks say what is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(60, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, blank: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(self.embed(ids), src_key_padding_mask=blank)[:, 0])


@pytest.mark.parametrize("training", [False, True])
def test_layers_of_torch(training: bool) -> None:
    torch.manual_seed(0)
    bare = TorchEncoder().double().eval()
    model = muxwrap.wrap(bare, 2, "pool", example_input=torch.arange(3, 11)[None], mux_at="encoder.layers.0").train(
        training
    )
    ids = torch.arange(10, 50).view(4, 10)
    blank = torch.arange(10) >= torch.tensor([[10], [6], [7], [4]])
    with torch.set_grad_enabled(training):
        padded = model(ids.masked_fill(blank, 1), blank)
        assert_close(model(ids.masked_fill(blank, 2), blank), padded)
        assert_close(model(ids[3:, :4]), padded[3:])
        model.train(False)
        single = muxwrap.wrap(muxwrap.unwrap(model), 1, "pool", sites=model.sites)
        assert_close(single(ids, blank), bare(ids, blank))


class TestImages:
    """Vision transformers."""

    def test_patches_of_a_vit(self) -> None:
        bare = timm.create_model("test_vit", num_classes=10, img_size=64).double().eval()
        model = muxwrap.wrap(bare, 4, "pool", mux_at="blocks.3")
        assert model.strategy.grid == (4, 4) and model.strategy.keep == 1
        images = numbers(0, 6, 3, 64, 64)
        with torch.no_grad():
            together, alone = model(images), model(images[4:5])
        assert_close(together[4:5], alone, atol=1e-6, rtol=1e-6)

    @pytest.mark.parametrize("family", ["ViT", "Dinov2"])
    def test_patches_of_transformers(self, family: str) -> None:
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
        config = getattr(transformers, f"{family}Config")(**sizes)
        torch.manual_seed(0)
        bare = double(getattr(transformers, f"{family}ForImageClassification")(config))
        model = muxwrap.wrap(bare, 4, "pool")
        assert model.strategy.grid == (4, 4) and model.strategy.keep == 1
        images = numbers(0, 6, 3, 32, 32)
        assert_close(
            logits(model, {"pixel_values": images})[5:],
            logits(model, {"pixel_values": images[5:]}),
            atol=1e-6,
            rtol=1e-6,
        )

    def test_an_even_image_is_answered_as_before(self) -> None:
        bare = timm.create_model("test_vit", num_classes=10, img_size=64).double().eval()
        with torch.no_grad():
            bare.pos_embed.zero_()
            images = numbers(0, 3, 3, 1, 1).expand(-1, -1, 64, 64)
            expected = bare(images)
            assert_close(muxwrap.wrap(bare, 4, "pool", mux_at="blocks.0@input")(images), expected)
