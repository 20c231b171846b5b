"""``muxwrap list``: every strategy and demuxer, with what its class says of itself."""

from __future__ import annotations

import json

import pytest

import muxwrap
from muxwrap import demuxers, strategies
from muxwrap._util.docstrings import cost, plain, summary
from muxwrap.cli import main


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    assert main(["list", "--json", *words]) == 0
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)
    return found


def test_every_name_has_a_kind_a_line_and_a_cost(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    names = {role: [each["name"] for each in found if each["role"] == role] for role in ("strategy", "demuxer")}
    assert names == {"strategy": muxwrap.list_strategies(), "demuxer": muxwrap.list_demuxers()}
    for each in found:
        assert all(each.values()), each
        assert "\n" not in each["description"] and "`" not in each["description"] + each["cost"]
    kinds = {each["name"]: each["kind"] for each in found}
    assert (kinds["hadamard"], kinds["pool"], kinds["layout"]) == ("features", "tokens", "images")
    assert (kinds["index"], kinds["mlp"]) == ("tokens", "features")  # index puts tokens before the mixture


def test_the_table_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, description in muxwrap.list_strategies(with_description=True):
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert description in line


def test_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    names = [each["name"] for each in listed(capsys, "--kind", "images")]
    assert names == muxwrap.list_strategies("image")
    assert main(["list", "--kind", "image"]) == 2
    assert "did you mean 'images'?" in capsys.readouterr().err


def test_descriptions_are_the_classes_own() -> None:
    assert dict(muxwrap.list_strategies("tokens", with_description=True)).keys() == set(
        muxwrap.list_strategies("tokens")
    )
    assert dict(muxwrap.list_demuxers(with_description=True))["unbind"].startswith("h_i = φ_i⁻¹(h / s)")

    class Undocumented(strategies.Slots):
        pass

    assert summary(Undocumented) == cost(Undocumented) == ""  # those of Slots are another class's
    assert plain(":meth:`~a.b.separate` of ``x``, *n* times") == "separate of x, n times"


@pytest.mark.parametrize("registry", [strategies.registry, demuxers.registry], ids=lambda registry: registry.kind)
def test_no_class_of_the_package_goes_without(registry: muxwrap.registry.Registry) -> None:  # type: ignore[type-arg]
    classes = [registry.get(name) for name in registry.names()]
    assert not [cls for cls in classes if not (summary(cls) and cost(cls))]
