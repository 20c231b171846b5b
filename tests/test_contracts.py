"""What timm's and Transformers' own code asks of a model, asked of a wrapped one."""

from __future__ import annotations

import copy
import inspect
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import assert_same_state, copies
from torch import Tensor, nn

import muxwrap
from muxwrap import MuxwrapError, strategies

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

Hadamard = strategies.registry.get("hadamard")

# -- timm ---------------------------------------------------------------------------------------------------------


def timm_model(name: str = "test_vit", n: int = 2, **options: Any) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    sizes = {"img_size": 32} if "vit" in name else {}
    example = torch.zeros(1, 3, 32, 32)
    return muxwrap.wrap(timm.create_model(name, num_classes=10, **sizes), n, example_input=example, **options)


def images(rows: int) -> Tensor:
    return torch.randn(rows, 3, 32, 32, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_timms_attributes_are_the_backbones(name: str) -> None:
    model = timm_model(name)
    bare = model.backbone
    assert model.num_classes == 10
    assert model.num_features == bare.num_features > 0
    assert model.head_hidden_size == bare.head_hidden_size
    assert model.pretrained_cfg is bare.pretrained_cfg
    assert model.default_cfg is bare.default_cfg
    assert model.get_classifier() is bare.get_classifier()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_reset_classifier_attaches_to_the_new_one(name: str) -> None:
    model = timm_model(name).eval()
    old = model.get_classifier()
    model.reset_classifier(3)
    assert model.get_classifier() is not old
    assert model.num_classes == 3
    answer = model(images(5))
    assert answer.shape == (5, 3)
    assert not torch.allclose(answer, model.backbone(images(5)))
    answer.square().sum().backward()
    for part in (model.get_classifier(), model.demuxer, model.strategy):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert not old._forward_hooks and not old._forward_pre_hooks
    muxwrap.unwrap(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.backbone.modules())


def test_a_refused_reset_leaves_the_model_attached() -> None:
    model = timm_model().eval()
    answer = model(images(4))
    with pytest.raises(TypeError):
        model.reset_classifier()
    torch.testing.assert_close(model(images(4)), answer, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    grads = []
    for on in (False, True):
        model = timm_model(name).train()
        if on:
            model.set_grad_checkpointing(enable=True)
            assert model.backbone.grad_checkpointing
        model(images(5)).square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


def test_no_weight_decay_names_parameters_by_their_wrapped_names() -> None:
    from timm.optim import create_optimizer_v2

    model = timm_model(strategy=partial(Hadamard, learnable=True))
    names, parameters = model.no_weight_decay(), dict(model.named_parameters())
    assert names == {f"backbone.{name}" for name in model.backbone.no_weight_decay()} | {
        "strategy.keys",
        *(f"demuxers.0.{name}" for name in ("bias", "norm_weight", "norm_bias")),
    }
    assert {"backbone.pos_embed", "backbone.cls_token", "strategy.keys"} <= parameters.keys()

    groups = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05).param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decay.keys() == {id(p) for p in parameters.values()}
    for name, p in parameters.items():
        spared = p.ndim <= 1 or name.endswith(".bias") or name in names
        assert decay[id(p)] == (0 if spared else 0.05), name


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_resnet"])
def test_layer_decay_is_that_of_the_bare_model(name: str) -> None:
    from timm.optim import param_groups_layer_decay

    def scales(model: nn.Module) -> dict[str, float]:
        names = {id(p): name for name, p in model.named_parameters()}
        groups = param_groups_layer_decay(model, no_weight_decay_list=model.no_weight_decay(), layer_decay=0.5)
        return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}

    model = timm_model(name)
    if not hasattr(model.backbone, "no_weight_decay"):
        model.backbone.no_weight_decay = set
    ours, bare = scales(model), scales(model.backbone)
    assert len(set(bare.values())) > 3
    assert {key: ours[f"backbone.{key}"] for key in bare} == bare
    added = {scale for key, scale in ours.items() if not key.startswith("backbone.")}
    assert added == {1.0}


def test_group_matcher_is_there_only_if_the_backbone_has_one() -> None:
    assert hasattr(timm_model(), "group_matcher")
    plain = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
    assert not hasattr(muxwrap.wrap(plain, 2, example_input=torch.zeros(1, 8)), "group_matcher")


def test_model_ema_follows_and_answers_for_itself() -> None:
    from timm.utils import ModelEmaV3

    model = timm_model("test_resnet").train()
    ema = ModelEmaV3(model, decay=0.5)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.01)
    ema.update(model)
    for name, value in ema.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (start[name] + model.state_dict()[name]) / 2, msg=name)
    answer = ema(images(4))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    torch.testing.assert_close(ema(images(4)), answer, rtol=0, atol=0)
    ema.set(model)
    assert_same_state(ema.module, model)


# -- setting and deleting -----------------------------------------------------------------------------------------


class Settings(nn.Module):
    """Divides its answers by attributes of every kind."""

    kind = "class attribute"

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head, self.drop = (
            nn.Linear(8, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 3),
            nn.Identity(),
        )
        self.temperature = 1.0
        self.weight = nn.Parameter(torch.ones(()))
        self.register_buffer("buffer", torch.ones(()))
        self.missing: float | None = None
        self.n = 7
        self._factor = 1.0

    @property
    def factor(self) -> float:
        return self._factor

    @factor.setter
    def factor(self, value: float) -> None:
        self._factor = value

    @property
    def constant(self) -> int:
        return 1

    def scaled(self, y: Tensor) -> Tensor:
        return y

    def forward(self, x: Tensor) -> Tensor:
        y = self.drop(self.head(torch.relu(self.body(torch.relu(self.stem(x))))))
        return self.scaled(y) / self.temperature / self.weight / self.buffer / self.factor / (self.missing or 1)


def settings() -> tuple[muxwrap.Multiplex, Tensor]:
    torch.manual_seed(0)
    model = muxwrap.wrap(Settings(), 2, example_input=torch.zeros(1, 8)).eval()
    return model, torch.randn(5, 8)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.0),
        ("temperature", torch.tensor(2.0)),
        ("weight", nn.Parameter(torch.tensor(2.0))),
        ("buffer", torch.tensor(2.0)),
        ("factor", 2.0),
        ("missing", 2.0),
    ],
)
def test_what_is_set_reaches_the_backbone(name: str, value: Any) -> None:
    model, x = settings()
    before, names = model(x), set(model.state_dict())
    setattr(model, name, value)
    assert getattr(model, name) is getattr(model.backbone, name) is value
    assert set(model.state_dict()) == names
    torch.testing.assert_close(model(x), before / 2)


def test_a_module_at_which_nothing_happens_can_be_set_and_others_not() -> None:
    model, x = settings()
    before = model(x)
    model.drop = nn.Threshold(1e9, 3.0)
    assert model.backbone.drop is model.drop
    torch.testing.assert_close(model(x), torch.full_like(before, 3.0))
    hooked = {site.path for site in (*model.sites.mux, *model.sites.demux)}
    assert hooked == {"stem", "head"}
    for name in hooked:
        old = getattr(model, name)
        for change in (lambda name=name: setattr(model, name, nn.Identity()), lambda name=name: delattr(model, name)):
            with pytest.raises(muxwrap.MuxwrapError, match="at which instances are mixed or separated"):
                change()
        setattr(model, name, old)
        assert getattr(model.backbone, name) is old


def test_what_is_registered_reaches_the_backbone() -> None:
    model, x = settings()
    before, names = model(x), set(model.state_dict())
    model.register_buffer("buffer", torch.tensor(2.0))
    model.register_parameter("weight", nn.Parameter(torch.tensor(2.0)))
    torch.testing.assert_close(model(x), before / 4)
    assert set(model.state_dict()) == names
    model.add_module("drop", nn.Threshold(1e9, 3.0))
    torch.testing.assert_close(model(x), torch.full_like(before, 3.0 / 4))
    with pytest.raises(muxwrap.MuxwrapError, match="at which instances are mixed or separated"):
        model.register_module("head", nn.Linear(16, 3))
    model.register_buffer("extra", torch.zeros(1), persistent=False)
    model.add_module("other", nn.Identity())
    model.register_parameter("third", nn.Parameter(torch.zeros(1)))
    assert not any(hasattr(model.backbone, name) for name in ("extra", "other", "third"))
    assert {"extra", "third"} & set(model.state_dict()) == {"third"}


def test_setting_in_a_copy_leaves_the_original() -> None:
    model, x = settings()
    before = model(x)
    for other in copies(model):
        other.temperature = 2.0
        torch.testing.assert_close(other(x), before / 2)
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_what_is_the_wrappers_own_stays_there() -> None:
    model, _ = settings()
    assert (model.n, model.backbone.n) == (2, 7)
    model.train()
    model.training = False
    assert model.backbone.training
    model.note = "new"
    assert "note" not in vars(model.backbone)
    model.kind = "set"
    assert (model.backbone.kind, Settings.kind) == ("set", "class attribute")
    for name in ("demuxer", "attached"):
        with pytest.raises(muxwrap.MuxwrapError, match=rf"model.{name} = ... cannot be set"):
            setattr(model, name, nn.Linear(2, 2))


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))


def around(model: nn.Module) -> MethodType:
    old = model.forward
    return MethodType(lambda _self, x: 2 * old(x), model)


def through_children(model: nn.Module) -> MethodType:
    return MethodType(lambda self, x: self.backbone[4](torch.relu(self.backbone[0](x))), model)


def test_a_forward_that_is_set_calls_the_old_one() -> None:
    x = torch.randn(5, 8)
    model = muxwrap.wrap(perceptron(), 2, example_input=x).eval()
    answer = model(x)
    model.forward = around(model)
    torch.testing.assert_close(model(x), 2 * answer)
    del model.forward
    torch.testing.assert_close(model(x), answer)


def test_a_forward_that_is_set_and_leaves_mixing_out_is_refused() -> None:
    x = torch.randn(5, 8)
    model = muxwrap.wrap(perceptron(), 2, example_input=x).eval()
    other = muxwrap.wrap(perceptron(), 2, example_input=x).eval()
    answer = other(x)
    model.forward = through_children(model)
    for each in (model, copy.deepcopy(model)):
        with pytest.raises(MuxwrapError, match=r"model\.forward was replaced.*let it call the old one"):
            each(x)
    model.forward = lambda x: other(x)  # of another wrapped model, which is watched for itself
    with pytest.raises(MuxwrapError, match=r"model\.forward was replaced"):
        model(x)
    model.forward = lambda x: x.missing
    for _ in range(2):
        with pytest.raises(AttributeError, match="missing"):
            model(x)
    del model.forward
    torch.testing.assert_close(model(x), other(x))
    torch.testing.assert_close(other(x), answer)
    other.forward = around(other)
    model.forward = MethodType(lambda self, x: other(x) + type(self).forward(self, x), model)  # one inside the other
    torch.testing.assert_close(model(x), 3 * answer)


def test_a_compiled_forward_that_is_set() -> None:
    x = torch.randn(4, 8)
    model = muxwrap.wrap(perceptron(), 2, example_input=x).eval()
    answer = model(x)
    model.forward = around(model)
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), 2 * answer)


def test_errors_in_setting_are_those_of_the_bare_model() -> None:
    model, _ = settings()
    for bare_or_wrapped in (model.backbone, model):
        with pytest.raises(AttributeError):
            bare_or_wrapped.constant = 2
        with pytest.raises(TypeError, match="cannot assign"):
            bare_or_wrapped.weight = torch.tensor(2.0)
    with pytest.raises(muxwrap.MuxwrapError, match=r"set model.backbone.scaled"):
        model.scaled = lambda y: y / 2


def test_deleting_reaches_the_backbone() -> None:
    model, _ = settings()
    model.note = 1
    for name in ("temperature", "weight", "buffer", "drop"):
        delattr(model, name)
        assert not hasattr(model.backbone, name)
        assert not hasattr(model, name)
    del model.note
    with pytest.raises(AttributeError):
        del model.note


def test_hasattr_is_true_only_for_what_the_backbone_has() -> None:
    model = muxwrap.wrap(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), 2, example_input=torch.zeros(1, 8))
    for name in ("generate", "reset_classifier", "set_input_embeddings", "config", "temperature"):
        assert not hasattr(model, name)
    assert hasattr(timm_model(), "reset_classifier")


# -- Transformers -------------------------------------------------------------------------------------------------

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def bert(cls: str = "BertForSequenceClassification", n: int = 2, **options: Any) -> muxwrap.Multiplex:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, **{"num_labels": 3, **SIZES, **options})
    return muxwrap.wrap(getattr(transformers, cls)(config), n).eval()


def ids(rows: int, length: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[0, 4:] = 0
    return {"input_ids": torch.randint(5, 50, (rows, length), generator=generator), "attention_mask": mask}


@pytest.mark.parametrize(
    "cls", ["BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering"]
)
def test_the_class_has_the_backbones_signature(cls: str) -> None:
    from transformers.utils import can_return_loss, find_labels

    model = bert(cls, num_labels=2)
    backbone = type(model.backbone)
    assert inspect.signature(type(model).forward) == inspect.signature(backbone.forward)
    assert find_labels(type(model)) == find_labels(backbone) != []
    assert can_return_loss(type(model)) == can_return_loss(backbone)


def test_config_and_names_are_the_backbones() -> None:
    model = bert()
    assert model.config is model.backbone.config
    assert model.main_input_name == "input_ids"
    assert model.num_labels == 3
    assert model.base_model_prefix == "bert"
    assert model.device == torch.device("cpu")
    assert model.get_input_embeddings() is model.backbone.bert.embeddings.word_embeddings


def test_save_pretrained_writes_all_of_it(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(str(tmp_path))
    assert {"muxwrap.json", "model.safetensors", "config.json"} <= {path.name for path in tmp_path.iterdir()}
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, transformers.BertConfig)
    bare = transformers.AutoModelForSequenceClassification.from_config(config)
    loaded = muxwrap.load(tmp_path, bare).eval()
    assert_same_state(loaded, model)
    torch.testing.assert_close(loaded(**ids(5)).logits, model(**ids(5)).logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["from_pretrained", "init_weights"])
def test_methods_that_know_nothing_of_mixtures_are_not_passed_on(name: str) -> None:
    model = bert()
    assert hasattr(model.backbone, name)
    assert not hasattr(model, name)
    with pytest.raises(muxwrap.MuxwrapError, match=rf"model\.backbone\.{name}\(\)"):
        getattr(model, name)


def test_generate_is_refused_with_the_reason() -> None:
    with pytest.raises(muxwrap.MuxwrapError, match="share their next token"):
        bert().generate(**ids(2))


@pytest.mark.parametrize("name", ["activation_checkpointing_enable", "gradient_checkpointing_enable"])
# Transformers renames the second to the first and warns of the old name.
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning")
def test_activation_checkpointing_gives_the_same_gradients(name: str) -> None:
    if not hasattr(transformers.PreTrainedModel, name):
        pytest.skip(f"this version of Transformers has no {name}")
    grads = []
    for on in (False, True):
        model = bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
        if on:
            getattr(model, name)()
            assert any(getattr(module, "gradient_checkpointing", False) for module in model.backbone.modules())
        model(**ids(5), labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
        grads.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


PROBLEMS = {
    "single_label_classification": (3, torch.tensor([0, 1, 2, 0, 1]), F.cross_entropy),
    "multi_label_classification": (3, torch.eye(5, 3), F.binary_cross_entropy_with_logits),
    "regression": (1, torch.arange(5.0), lambda logits, labels: F.mse_loss(logits.squeeze(1), labels)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_labels_give_the_backbones_loss_over_the_rows_of_the_batch(problem: str) -> None:
    num_labels, labels, criterion = PROBLEMS[problem]
    model = bert(num_labels=num_labels)  # the kind of problem is found out from the labels, as by the bare model
    output = model(**ids(5), labels=labels)
    assert model.config.problem_type == problem
    assert output.logits.shape == (5, num_labels)
    torch.testing.assert_close(output.loss, criterion(output.logits, labels))


@pytest.mark.parametrize("rows", [4, 6])  # six is what the groups are filled up to
def test_labels_of_another_length_are_refused(rows: int) -> None:
    with pytest.raises(muxwrap.MuxwrapError, match=rf"labels are \[{rows}\] for input_ids \[5, 7\]"):
        bert()(**ids(5), labels=torch.zeros(rows, dtype=torch.long))


def test_token_labels_and_spans_give_the_backbones_loss() -> None:
    model = bert("BertForTokenClassification")
    labels = torch.randint(0, 3, (5, 7), generator=torch.Generator().manual_seed(0))
    labels[0, 4:] = -100
    output = model(**ids(5), labels=labels)
    assert output.logits.shape == (5, 7, 3)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits.flatten(0, 1), labels.flatten()))

    model = bert("BertForQuestionAnswering", num_labels=2)
    start, end = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([3, 4, 5, 6, 6])
    output = model(**ids(5), start_positions=start, end_positions=end)
    assert output.start_logits.shape == output.end_logits.shape == (5, 7)
    expected = (F.cross_entropy(output.start_logits, start) + F.cross_entropy(output.end_logits, end)) / 2
    torch.testing.assert_close(output.loss, expected)


def test_tuples_instead_of_model_outputs() -> None:
    model = bert()
    labels = torch.tensor([0, 1, 2, 0, 1])
    output = model(**ids(5), labels=labels)
    assert type(output) is type(model.backbone(**ids(5)))
    loss, logits = model(**ids(5), labels=labels, return_dict=False)
    torch.testing.assert_close((loss, logits), (output.loss, output.logits), rtol=0, atol=0)
    (alone,) = model(**ids(5), return_dict=False)
    torch.testing.assert_close(alone, output.logits, rtol=0, atol=0)
    torch.testing.assert_close(output.to_tuple(), (output["loss"], output["logits"]), rtol=0, atol=0)


def test_hidden_states_belong_to_the_mixtures() -> None:
    output = bert(n=2)(**ids(5), output_hidden_states=True)
    assert output.logits.shape == (5, 3)
    assert {len(each) for each in output.hidden_states[1:]} == {3}
    logits, states = bert(n=2)(**ids(5), output_hidden_states=True, return_dict=False)
    assert logits.shape == (5, 3)
    torch.testing.assert_close(states, output.hidden_states)


def gpt2(n: int) -> tuple[nn.Module, muxwrap.Multiplex]:
    """Return a bare causal model, and a copy of it wrapped."""
    torch.manual_seed(0)
    ids_of = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=2, **ids_of)
    bare = transformers.GPT2LMHeadModel(config).eval()
    return bare, muxwrap.wrap(copy.deepcopy(bare), n).eval()


def test_a_set_config_and_loss_function_are_the_backbones() -> None:
    model = bert()
    config = copy.deepcopy(model.config)
    model.config = config
    assert model.backbone.config is config
    model.loss_function = lambda *_, **__: torch.tensor(3.0)
    _, causal = gpt2(2)
    causal.loss_function = lambda *_, **__: torch.tensor(3.0)
    assert causal(**ids(4), labels=ids(4)["input_ids"]).loss == 3


@pytest.mark.parametrize("family", ["Bert", "Roberta", "XLNet"])
def test_models_of_several_choices_need_no_example(family: str) -> None:
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64} if family == "XLNet" else SIZES
    config = getattr(transformers, f"{family}Config")(vocab_size=50, **sizes)
    model = muxwrap.wrap(getattr(transformers, f"{family}ForMultipleChoice")(config), 2).eval()
    tokens = torch.randint(5, 50, (3, 4, 7), generator=torch.Generator().manual_seed(0))
    output = model(input_ids=tokens, labels=torch.tensor([0, 3, 1]))
    assert output.logits.shape == (3, 4)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, torch.tensor([0, 3, 1])))


def test_set_input_embeddings_reaches_the_backbone() -> None:
    model, x = bert(), ids(5)
    before = model(**x).logits
    old = model.get_input_embeddings()
    new = copy.deepcopy(old)
    model.set_input_embeddings(new)
    assert model.get_input_embeddings() is new
    torch.testing.assert_close(model(**x).logits, before, rtol=0, atol=0)
    _, causal = gpt2(2)
    before = causal(input_ids=x["input_ids"]).logits
    causal.set_input_embeddings(copy.deepcopy(causal.get_input_embeddings()))
    torch.testing.assert_close(causal(input_ids=x["input_ids"]).logits, before, rtol=0, atol=0)


def test_resized_token_embeddings_keep_the_answers() -> None:
    model, x = bert(), ids(5)
    before = model(**x).logits
    assert model.resize_token_embeddings(60) is model.get_input_embeddings()
    assert model.config.vocab_size == 60
    torch.testing.assert_close(model(**x).logits, before, rtol=0, atol=0)
    more = model(input_ids=torch.full((5, 7), 59))
    assert torch.isfinite(more.logits).all()
    _, causal = gpt2(2)  # its head is tied to the embeddings, and mixing is inside of them
    before = causal(input_ids=x["input_ids"]).logits
    causal.resize_token_embeddings(60, mean_resizing=False)
    torch.testing.assert_close(causal(input_ids=x["input_ids"]).logits[..., :50], before)
    assert causal.backbone.lm_head.weight is causal.get_input_embeddings().weight


@pytest.mark.parametrize("tokens", [5, 7])
def test_another_attention_keeps_the_answers_and_the_hooks(tokens: int) -> None:
    for model in (bert(), gpt2(2)[1]):
        x = ids(5, tokens)
        before = model(**x).logits
        for kind in ("eager", "sdpa"):
            model.set_attn_implementation(kind)
            assert model.config._attn_implementation == kind
            torch.testing.assert_close(model(**x).logits, before)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_trainers_loss_is_that_of_the_bare_causal_model(smoothing: float, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    args = transformers.TrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", label_smoothing_factor=smoothing, disable_tqdm=True
    )
    losses = []
    for model in gpt2(1):
        trainer = transformers.Trainer(model, args)
        tokens = ids(4)["input_ids"]
        for items in (None, torch.tensor(11)):  # with and without the count of labels over accumulated batches
            losses.append(
                trainer.compute_loss(model, {"input_ids": tokens, "labels": tokens}, num_items_in_batch=items)
            )
        assert trainer.label_names == ["labels"]
        assert trainer.model_accepts_loss_kwargs
        assert not trainer.can_return_loss
    torch.testing.assert_close(losses[:2], losses[2:])
    assert losses[0] != losses[1]


def test_the_class_has_the_backbones_name() -> None:
    bare, model = gpt2(2)
    assert type(model).__name__ == model._get_name() == type(bare).__name__
    assert type(model).__qualname__ == "Multiplex[GPT2LMHeadModel]"
    assert isinstance(model, muxwrap.Multiplex)
