"""Text and images: what is read, what is refused, and that answers are those of the model."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from nets import batch
from PIL import Image
from served import Small, at_once, bert, in_process, listening, mixtures, model, tokenizer

import muxwrap
from muxwrap import serving
from muxwrap.errors import MuxwrapError
from muxwrap.serving.choices import inputs_for, sizes_for
from muxwrap.serving.requests import RequestError

TEXTS = ["a b c", "d", "e f g h a b c d", "b b", "c d e"]


def small(image: Image.Image) -> torch.Tensor:
    """An image to ``[3, 8, 8]``."""
    return torch.from_numpy(np.asarray(image.resize((8, 8)), np.float32)).permute(2, 0, 1) / 255


def picture(seed: int, size: tuple[int, int] = (20, 16), mode: str = "RGB", kind: str = "PNG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def images() -> Any:
    net = muxwrap.wrap(Small(), 4, "slots", "mlp", example_input=torch.zeros(1, 3, 8, 8)).eval()
    return net, serving.service(net, transform=small, max_wait=1.0)


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(RequestError) as error:
        call()
    return error.value.status, str(error.value)


# -- text -------------------------------------------------------------------------------------------------------------


def test_texts_are_answered_as_by_the_model() -> None:
    net, words = bert(n=4), tokenizer()
    with listening(serving.service(net, tokenizer=words, max_wait=0.5)) as client:
        responses = at_once(client, [{"text": text} for text in TEXTS])
        pair = client.post("/predict", json={"text": "a b", "pair": "c"}).json()
    answers = [response.json() for response in responses]
    for members in mixtures(answers).values():
        filled = [TEXTS[members[k % len(members)]] for k in range(4)]
        with torch.inference_mode():
            logits = net(**words(filled, padding=True, return_tensors="pt")).logits
        given = torch.tensor([answers[k]["output"]["logits"] for k in members])
        torch.testing.assert_close(given, logits[: len(members)], atol=1e-5, rtol=1e-4)
    with torch.inference_mode():
        logits = net(**words(["a b"] * 4, ["c"] * 4, return_tensors="pt")).logits
    torch.testing.assert_close(torch.tensor(pair["output"]["logits"]), logits[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("BertForTokenClassification", "logits"),
        ("BertForQuestionAnswering", "end_logits"),
        ("BertModel", "last_hidden_state"),
    ],
)
def test_answers_by_token_end_with_the_text(kind: str, name: str) -> None:
    net, words = bert(kind, n=2), tokenizer()
    with listening(serving.service(net, tokenizer=words, max_wait=0.5)) as client:
        short, long = at_once(client, [{"text": text} for text in ("a", "a b c d e")])
    assert (len(short.json()["output"][name]), len(long.json()["output"][name])) == (3, 7)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"text": 3}', 422, "no string"),
        (b'{"text": null}', 422, "no string"),
        (b'{"text": ["a"]}', 422, "no string"),
        (b'{"text": "a", "pair": 3}', 422, "no string"),
        (b'{"text": "\\ud800"}', 422, "half of a surrogate pair"),
        (b'{"text": "' + b"a " * 40 + b'"}', 422, "the text has 42 tokens; send 1 to 40"),
        (b'{"body": "a"}', 422, "the field 'text' is missing"),
    ],
)
def test_texts_that_are_refused(body: bytes, status: int, message: str) -> None:
    inputs = serving.Text(tokenizer(), bert().backbone)
    found = refused(lambda: inputs.read(body, "application/json"))
    assert found[0] == status and message in found[1]


def test_any_unicode_is_text() -> None:
    inputs = serving.Text(tokenizer(), bert().backbone)
    row, _ = inputs.read('{"text": "é 語 \\u0000 🙂 a"}'.encode(), "application/json")
    assert row["input_ids"].tolist()[0] == 2 and len(row["input_ids"]) >= 4


def test_a_text_without_tokens_is_refused() -> None:
    words = tokenizer()
    words.backend_tokenizer.post_processor = None
    assert refused(lambda: serving.Text(words).read(b'{"text": ""}', "")) == (
        422,
        "the text has 0 tokens; send 1 to 512",
    )


def test_the_longest_text_is_what_tokenizer_model_and_user_allow() -> None:
    net = bert().backbone
    assert serving.Text(tokenizer(), net).max_length == 40
    assert serving.Text(tokenizer(model_max_length=10), net).max_length == 10
    assert serving.Text(tokenizer(), net, 7).max_length == 7
    assert {len(values) for values in serving.Text(tokenizer(), net, 7).largest().values()} == {7}


# -- images -----------------------------------------------------------------------------------------------------------


def test_images_are_answered_as_by_the_model(images: Any) -> None:
    net, service = images
    files = [picture(k, kind=kind) for k, kind in enumerate(("PNG", "JPEG", "BMP", "WEBP", "GIF"))]
    files.append(picture(6, (9, 40), "L"))
    inputs = torch.stack([small(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    with listening(service) as client:
        responses = at_once(client, [{"image": base64.b64encode(file).decode()} for file in files])
        raw = client.post("/predict", content=files[0], headers={"Content-Type": "image/png", "X-Tenant": "a"})
        content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    answers = [response.json() for response in responses]
    given = torch.tensor([answer["output"] for answer in answers])
    torch.testing.assert_close(given, in_process(net, inputs, answers), atol=1e-5, rtol=1e-4)
    alone = torch.tensor([raw.json()["output"]])
    torch.testing.assert_close(alone, in_process(net, inputs[:1], [raw.json()]), atol=1e-5, rtol=1e-4)
    assert {"application/json", "image/*"} <= set(content)


def test_images_that_are_refused(images: Any) -> None:
    inputs: serving.Images = images[1].inputs
    whole = picture(0, (64, 64))
    for broken in (b"", b"no image", whole[:100], whole[: len(whole) // 2], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        status, message = refused(lambda broken=broken: inputs.read(broken, "image/png"))  # type: ignore[misc]
        assert status == 422 and message.startswith("the image cannot be read; send a whole BMP, GIF")
    for body in (b'{"image": "***"}', b'{"image": 3}', b'{"image": null}'):
        status, message = refused(lambda body=body: inputs.read(body, "application/json"))  # type: ignore[misc]
        assert status == 422 and message.startswith("'image' is no base64")


def test_an_image_of_many_pixels_is_not_decoded() -> None:
    inputs = serving.Images(small, max_pixels=1000)
    assert refused(lambda: inputs.read(picture(0, (40, 26)), "image/png")) == (
        413,
        "the image has 1,040 pixels; send one of at most 1,000",
    )
    # A file of a few bytes that says it is huge.
    head = picture(0)
    bomb = head[:16] + (60_000).to_bytes(4, "big") * 2 + head[24:]
    assert refused(lambda: serving.Images(small).read(bomb, "image/png"))[0] in (413, 422)


def test_a_transform_that_fails_for_one_image_refuses_that_image() -> None:
    def odd(image: Image.Image) -> torch.Tensor:
        row = small(image)
        if image.width == 20:
            return row[:, :4]
        return row / 0 if image.width == 21 else row

    inputs = serving.Images(odd)
    assert refused(lambda: inputs.read(picture(0), "image/png")) == (
        422,
        "the image becomes [3, 4, 8] and not [3, 8, 8]; send another size",
    )
    assert refused(lambda: inputs.read(picture(0, (21, 16)), "image/png"))[1].startswith(
        "the image becomes numbers that"
    )


# -- what a server refuses to be made of ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"server\(\): 0 kinds of input; give one of tokenizer="),
        ({"tokenizer": 1, "transform": 2}, r"server\(tokenizer=\.\.\., transform=\.\.\.\): 2 kinds of input"),
        ({"transform": small, "max_length": 3}, r"server\(transform=\.\.\., max_length=3\): it belongs to tokenizer="),
        ({"transform": small, "input_range": (0, 1)}, r"input_range=\(0, 1\)\): it belongs to example_input="),
        ({"example_input": [1.0]}, r"example_input=list: rows are served as one tensor"),
        ({"example_input": torch.zeros(3)}, r"example_input=Tensor: rows are served as one tensor"),
        (
            {"example_input": torch.zeros(1, 3, dtype=torch.long)},
            r"example_input is torch\.int64: an id .* input_range=",
        ),
        ({"example_input": torch.zeros(1, 3), "input_range": (1, 1)}, r"input_range=\(1, 1\) has no number in it"),
    ],
)
def test_inputs_that_are_not_one_kind(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MuxwrapError, match=message):
        inputs_for(model(), **options)


def test_transforms_and_tokenizers_that_do_not_fit() -> None:
    with pytest.raises(
        MuxwrapError, match=r"transform: it makes \[48, 64, 3\] of one image and \[480, 320, 3\] of another"
    ):
        serving.Images(lambda image: np.asarray(image))
    with pytest.raises(MuxwrapError, match=r"tokenizer=\w+ has 12 tokens, and the model a table of 5"):
        serving.Text(tokenizer(), bert(vocab_size=5).backbone)
    with pytest.raises(MuxwrapError, match=r"max_length=0: no request would fit"):
        serving.Text(tokenizer(), max_length=0)


def test_a_model_that_fails_on_the_largest_row_is_not_served() -> None:
    with pytest.raises(MuxwrapError, match=r"fails on a row as large as is allowed \(input_ids \[41\].*; allow less"):
        serving.service(bert(), tokenizer=tokenizer(), max_length=41)


def test_n_is_one_of_the_model_s() -> None:
    net = model()
    assert sizes_for(net) == [1, 2, 4] and sizes_for(net, 2, 3) == [2] and sizes_for(net.backbone) == [1]
    with pytest.raises(
        MuxwrapError, match=r"server\(n_min=3, n_max=None\): the model has n of \(1, 2\), and none is within"
    ):
        sizes_for(model(n=(1, 2)), 3)


def test_ids_of_a_range_are_served() -> None:
    net = model("tagger", 2)
    service = serving.service(net, example_input=batch("tagger", 1), input_range=(0, 29), max_wait=0.5)
    ids = batch("tagger", 2)
    with listening(service) as client:
        answers = [response.json() for response in at_once(client, [{"input": row.tolist()} for row in ids])]
        bad = [client.post("/predict", json={"input": [k] * 7}) for k in (30, -1, 0.5)]
    given = torch.tensor([answer["output"] for answer in answers])
    torch.testing.assert_close(given, in_process(net, ids, answers), atol=1e-5, rtol=1e-4)
    assert [response.status_code for response in bad] == [422] * 3
    assert "not within [0, 29]" in bad[0].json()["error"] and "holds float64" in bad[2].json()["error"]
