"""Published checkpoints: the answers of the authors' code, saving, training, and what is refused.

``published_records.safetensors`` holds what the published classes answered with random weights; tools/published_records.py
packed it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

import muxwrap
from benchmarks.speed.published_parity import RECORDS, Record
from muxwrap import MuxwrapError, published
from muxwrap.training import RetrievalLoss

NAMES = list(RECORDS)
TOKEN_INDEX = [name for name in NAMES if name.endswith("-index-token")]
POSITIONS = "muxplm-bert-gaussian_hadamard-index_pos-sequence"
ATTENTION = "muxplm-bert-gaussian_attention_v2-index_pos-sequence"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def loaded(name: str, folder: Path, **settings: Any) -> tuple[muxwrap.Multiplex, Record]:
    record = Record(name)
    return published.load(record.write(folder), **settings), record


def answers(model: muxwrap.Multiplex, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**batch).logits


# -- the authors' answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_published_code(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path)
    given: list[Tensor] = []
    model.demuxer.register_forward_hook(lambda _module, _args, output: given.append(output))
    torch.testing.assert_close(answers(model, record.batch), record.logits, atol=1e-5, rtol=0)
    demuxed = given[0].flatten(0, 1)
    torch.testing.assert_close(
        demuxed[:, 0] if name.endswith("sequence") else demuxed, record.demuxed, atol=1e-5, rtol=0
    )
    assert isinstance(model, muxwrap.Multiplex)
    assert type(model.backbone).__module__.startswith("transformers.")
    assert not model.training


def test_every_published_combination_is_there() -> None:
    found = {tuple(name.split("-")[1:]) for name in NAMES}
    plain = ("gaussian_hadamard", "random_ortho", "binary_hadamard")
    expected = {("roberta", mux, demux) for mux in plain for demux in ("index", "mlp")}
    expected |= {("bert", mux, demux) for mux in (*plain, "random_ortho_low_rank") for demux in ("index", "index_pos")}
    expected.add(("bert", "gaussian_attention_v2", "index_pos"))
    assert found == {(*each, task) for each in expected for task in ("sequence", "token")}


@pytest.mark.parametrize("name", [NAMES[0], TOKEN_INDEX[0], POSITIONS, ATTENTION])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 8])
def test_any_number_of_rows(name: str, rows: int, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path)
    ids = record.batch["input_ids"][:rows].clone()
    some = answers(model, {"input_ids": ids, "attention_mask": record.batch["attention_mask"][:rows]})
    full = rows // 4 * 4
    assert some.shape == (rows, *record.logits.shape[1:])
    torch.testing.assert_close(some[:full], record.logits[:full], atol=1e-5, rtol=0)
    assert some.isfinite().all()
    assert torch.equal(ids, record.batch["input_ids"][:rows])  # the published code writes into its caller's ids


@pytest.mark.parametrize("name", TOKEN_INDEX)
def test_the_prefix_can_be_left_off(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path, keep_prefix=False)
    torch.testing.assert_close(answers(model, record.batch), record.logits[:, 5:], atol=1e-5, rtol=0)


# -- the oddities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [NAMES[0], NAMES[3], POSITIONS])
def test_masks_and_types_are_ignored(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path)
    ids = record.batch["input_ids"]
    given = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids)}
    if "bert-" in name and "roberta" not in name:
        given["token_type_ids"][:, 3:] = 1
    assert torch.equal(answers(model, given), answers(model, record.batch))
    with torch.no_grad():
        positional = model(ids, record.batch["attention_mask"]).logits
    assert torch.equal(positional, answers(model, record.batch))


def test_contextual_mixing_reads_the_mask(tmp_path: Path) -> None:
    model, record = loaded(ATTENTION, tmp_path)
    without = answers(model, {"input_ids": record.batch["input_ids"]})
    assert (without - record.logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["datamux-roberta-random_ortho-mlp-sequence", POSITIONS])
def test_the_first_token_is_overwritten(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path)
    other = record.batch["input_ids"].clone()
    other[:, 0] = other[:, 1]
    torch.testing.assert_close(answers(model, {"input_ids": other}), record.logits, atol=1e-5, rtol=0)


def test_oddities_are_settings_that_are_off_for_new_models(tmp_path: Path) -> None:
    model, _ = loaded(TOKEN_INDEX[0], tmp_path)
    bare = muxwrap.unwrap(published.load(tmp_path, keep_prefix=False))
    new = muxwrap.wrap(bare, 4, "hadamard", "index")
    assert model.sites.mux[0].twice and not new.sites.mux[0].twice
    assert (model.sites.mask, new.sites.mask) == ("ignored", "optional")
    assert model.demuxer.sentinel_ids and new.demuxer.sentinel_ids is None
    assert (model.demuxer.tokens_added, new.demuxer.tokens_added) == (5, 4)
    assert (model.demuxer.project, new.demuxer.project) == (False, True)


def test_three_demuxing_layers(tmp_path: Path) -> None:
    # Released models have three, and no record has: the retrieval head's last one is left out, the second is residual.
    record = Record(POSITIONS)
    record.config["num_hidden_demux_layers"] = 3
    extra = {f"demux_module.{name}_3.{kind}": record.state[f"demux_module.{name}_2.{kind}"].clone() for name, kind in
             (("dense", "weight"), ("dense", "bias"), ("layer_norm", "weight"), ("layer_norm", "bias"))}  # fmt: skip
    demuxer = published.load(record.write(tmp_path, **extra)).demuxer
    state = record.state
    h = torch.randn(2, 1, 32)

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, state[name + ".weight"], state[name + ".bias"])

    keys = state["demux_module.demux_instance_embedding"]
    joined = torch.cat([keys[None, :, None].expand(2, 4, 1, 32), h[:, None].expand(2, 4, 1, 32)], -1)
    u = F.gelu(linear("demux_module.dense_1", joined))
    u = u + F.gelu(linear("demux_module.dense_2", u))
    norm = [state[f"demultiplexer.pre_decoder_layer_norm.{kind}"] for kind in ("weight", "bias")]
    expected = u + F.layer_norm(F.gelu(linear("demultiplexer.pre_decoder", u)), (32,), *norm, 1e-12)
    with torch.no_grad():
        torch.testing.assert_close(demuxer(h), expected, atol=1e-5, rtol=1e-5)


# -- saving and training ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_read_again(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path)
    model.save_pretrained(str(tmp_path / "saved"))
    for again in (
        published.load(tmp_path / "saved"),
        muxwrap.load(tmp_path / "saved", published.backbone(tmp_path / "saved")),
    ):
        assert torch.equal(answers(again, record.batch), answers(model, record.batch))
        assert repr(again) == repr(model)
        assert again.sites == model.sites


@pytest.mark.parametrize("name", [name for name in NAMES if "gaussian" in name])
def test_fine_tuning(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path, keep_prefix=False)
    ids = record.batch["input_ids"]
    table = model.get_input_embeddings().weight
    table.data.nan_to_num_()
    shape = ids.shape if name.endswith("token") else ids.shape[:1]
    labels = torch.randint(3, shape, generator=torch.Generator().manual_seed(1))
    keys = model.strategy.keys.clone()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(8):
        loss = model(**record.batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert torch.equal(model.strategy.keys, keys)  # learn_muxing=0
    unmoved = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert all("pooler" in key for key in unmoved), unmoved


@pytest.mark.parametrize("muxing", ["gaussian_hadamard", "random_ortho", "random_ortho_low_rank", "binary_hadamard"])
def test_learned_keys(muxing: str, tmp_path: Path) -> None:
    record = Record(f"muxplm-bert-{muxing}-index_pos-token")
    record.config["learn_muxing"] = 1
    trained = record.state["instance_embedding"] + 0.1 * torch.randn(record.state["instance_embedding"].shape)
    model = published.load(record.write(tmp_path, instance_embedding=trained))
    assert model.strategy.learnable and model.strategy.keys.requires_grad
    same = published.load(record.write(tmp_path))
    torch.testing.assert_close(answers(same, record.batch), record.logits, atol=1e-5, rtol=0)
    assert not torch.allclose(answers(model, record.batch), record.logits, atol=1e-3)


def test_labels_of_a_model_that_answers_for_its_prefix(tmp_path: Path) -> None:
    model, record = loaded(TOKEN_INDEX[0], tmp_path)
    with pytest.raises(MuxwrapError, match=r"answers for 5 tokens of the prefix as well.*keep_prefix=False"):
        model(**record.batch, labels=torch.zeros(8, 9, dtype=torch.long))


@pytest.mark.parametrize("name", [name for name in NAMES if "gaussian" in name])
def test_retrieval_beside_the_task(name: str, tmp_path: Path) -> None:
    model, record = loaded(name, tmp_path, keep_prefix=False)
    model.get_input_embeddings().weight.data.nan_to_num_()
    both = RetrievalLoss(model).train()
    shape = (8, 9) if name.endswith("token") else (8,)
    loss = both(**record.batch, labels=torch.zeros(shape, dtype=torch.long)).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in both.head.parameters() if p.ndim > 1)


def test_compiles_in_one_graph_for_changing_batches(tmp_path: Path) -> None:
    model, record = loaded("datamux-roberta-binary_hadamard-mlp-sequence", tmp_path)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for rows in (8, 5):
        batch = {key: value[:rows] for key, value in record.batch.items()}
        torch.testing.assert_close(answers(compiled, batch), answers(model, batch))


def test_unwrapping_leaves_nothing(tmp_path: Path) -> None:
    bare = muxwrap.unwrap(loaded(ATTENTION, tmp_path)[0])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in bare.modules())


# -- other files ------------------------------------------------------------------------------------------------------


def test_a_pickle_of_tensors_is_read_with_its_shared_modules(tmp_path: Path) -> None:
    record = Record(POSITIONS)
    record.write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    own = {key: value for key, value in record.state.items() if not key.startswith("demux_module.")}
    shared = {key: value for key, value in record.state.items() if key.startswith("demux_module.")}
    unread = {
        "retrieval_head.decoder.weight": torch.zeros(3, 3),
        "bert.embeddings.position_ids": torch.arange(40)[None],
    }
    state = {**own, **{f"demultiplexer.{key}": value for key, value in shared.items()}, **unread}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(MuxwrapError, match=r"pytorch_model.bin is a pickle, .*; give allow_pickle=True"):
        published.load(tmp_path)
    loaded = published.load(tmp_path, allow_pickle=True)
    torch.testing.assert_close(answers(loaded, record.batch), record.logits, atol=1e-5, rtol=0)


def test_a_bias_is_read_under_either_of_its_names(tmp_path: Path) -> None:
    record = Record(TOKEN_INDEX[0])
    record.write(tmp_path)
    state = {key: value for key, value in record.state.items() if key != "demultiplexer.bias"}
    bias = state.pop("demultiplexer.decoder.bias")
    save_file({**state, "demultiplexer.bias": bias}, tmp_path / "model.safetensors")
    torch.testing.assert_close(answers(published.load(tmp_path), record.batch), record.logits, atol=1e-5, rtol=0)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def broken(change: Callable[[Record, Path], None]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        record = Record(POSITIONS)
        record.write(folder)
        change(record, folder)

    return write


def config(**fields: Any) -> Callable[[Path], None]:
    def change(record: Record, folder: Path) -> None:
        changed = {key: value for key, value in {**record.config, **fields}.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(changed))

    return broken(change)


def weights(name: str, value: Tensor | None) -> Callable[[Path], None]:
    def change(record: Record, folder: Path) -> None:
        state = {key: tensor.clone() for key, tensor in {**record.state, name: value}.items() if tensor is not None}
        save_file(state, folder / "model.safetensors")

    return broken(change)


def pickled(thing: Any) -> Callable[[Path], None]:
    def change(_record: Record, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        torch.save(thing, folder / "pytorch_model.bin")

    return broken(change)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda _folder: None, r"no config.json there; give the folder of a downloaded checkpoint"),
        (broken(lambda _r, f: (f / "config.json").write_text("{")), r"cannot be read as JSON"),
        (broken(lambda _r, f: (f / "config.json").write_text("[1]")), r"holds a list instead of an object"),
        (config(num_instances=None), r"has no 'num_instances'; it is not the config of a DataMUX or MUX-PLM model"),
        (config(muxing_variant=None), r"has no 'muxing_variant'"),
        (config(demuxing_variant=None), r"has no 'demuxing_variant'"),
        (config(num_instances=0), r"n=0 is below 1"),
        (
            config(muxing_variant="gaussian_hadamar"),
            r"muxing_variant='gaussian_hadamar' .* did you mean 'gaussian_hadamard'",
        ),
        (config(demuxing_variant="mlp"), r"demuxing_variant='mlp' of a MuxedBertForSequenceClassification is unknown"),
        (config(muxing_variant="gaussian_attention_v2", demuxing_variant="index"), r"the published code cannot run it"),
        (config(architectures=None), r"does not name an architecture; give architecture="),
        (config(architectures=["MuxedBertForMaskedLM"]), r"'MuxedBertForMaskedLM' cannot be read"),
        (config(num_hidden_demux_layers=1), r"num_hidden_demux_layers=1 .* an int >= 2"),
        (
            config(num_hidden_demux_layers=3, hidden_size=33),
            r"Transformers cannot make a BertForSequenceClassification",
        ),
        (config(demuxing_variant="index"), r"the weights lack 'demultiplexer.dense.weight'"),
        (
            config(muxing_variant="random_ortho"),
            r"instance_embedding is \[4, 32\], and 'random_ortho' has a matrix per instance",
        ),
        (config(num_hidden_layers=3), r"the weights lack 'bert.encoder.layer.2"),
        (config(intermediate_size=50), r"is \[48, 32\] in the weights and \[50, 32\] by the config"),
        (weights("classifier.weight", None), r"the weights lack 'classifier.weight'"),
        (weights("extra.weight", torch.zeros(2)), r"the weights hold 'extra.weight', which no sequence model"),
        (
            weights("bert.encoder.layer.0.output.dense.bias", None),
            r"the weights lack 'bert.encoder.layer.0.output.dense.bias'",
        ),
        (broken(lambda _r, f: (f / "model.safetensors").unlink()), r"neither model.safetensors nor pytorch_model.bin"),
        (
            broken(lambda _r, f: (f / "model.safetensors").write_bytes(b"x")),
            r"model.safetensors cannot be read as tensors",
        ),
        (
            pickled({"a": Evil()}),
            r"pytorch_model.bin cannot be read as tensors and nothing else, and what could run code",
        ),
        (pickled([torch.zeros(1)]), r"pytorch_model.bin does not hold a dictionary of tensors"),
    ],
)
def test_refused(write: Callable[[Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    with pytest.raises(MuxwrapError, match=f"(?s){message}") as caught:
        published.load(tmp_path, allow_pickle=True)
    assert str(caught.value).startswith(f"published.load({str(tmp_path)!r})")
    assert not (tmp_path / "evil").exists()


def test_keys_of_another_form_are_refused(tmp_path: Path) -> None:
    for muxing, other in (("binary_hadamard", torch.rand(4, 32)), ("random_ortho_low_rank", torch.rand(4, 32, 32))):
        record = Record(f"muxplm-bert-{muxing}-index_pos-token")
        with pytest.raises(MuxwrapError, match=r"instance_embedding (does not mark|is not a set)"):
            published.load(record.write(tmp_path, instance_embedding=other))


def test_an_architecture_can_be_named(tmp_path: Path) -> None:
    record = Record(POSITIONS)
    named = record.config.pop("architectures")[0]
    model = published.load(record.write(tmp_path), architecture=named)
    torch.testing.assert_close(answers(model, record.batch), record.logits, atol=1e-5, rtol=0)


def test_too_long_for_the_positions_with_the_prefix(tmp_path: Path) -> None:
    model, _ = loaded("muxplm-bert-gaussian_hadamard-index-sequence", tmp_path)
    ids = torch.full((4, 36), 101)
    assert answers(model, {"input_ids": ids[:, :35]}).shape == (4, 3)
    with pytest.raises(
        MuxwrapError, match=r"36 tokens and a prefix of 5 makes them 41, .* positions for 40; cut them to 35"
    ):
        answers(model, {"input_ids": ids})


def test_embedded_input_is_refused(tmp_path: Path) -> None:
    model, _ = loaded(POSITIONS, tmp_path)
    with pytest.raises(
        MuxwrapError, match=r"key inserts sentinel ids into the instances: call the model with input_ids"
    ):
        model(inputs_embeds=torch.zeros(4, 9, 32))
