"""Repositories: a model goes up and comes back, from a hub that is a folder here."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import assert_same_state
from nets import batch, make

import muxwrap
from muxwrap import MuxwrapError

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError  # noqa: E402
from huggingface_hub.utils import filter_repo_objects  # noqa: E402


class Hub:
    """What stands for the hub: a folder per repository, and a list of the calls."""

    def __init__(self, root: Path) -> None:
        self.root, self.calls = root, []

    def HfApi(self, token: object = None) -> Any:  # noqa: N802
        self.calls.append(("token", token))
        return SimpleNamespace(create_repo=self.create_repo, upload_folder=self.upload_folder)

    def create_repo(self, repo_id: str, *, private: bool | None, exist_ok: bool) -> Any:
        if repo_id.startswith("nobody/"):
            raise HFValidationError("403 Forbidden")
        assert exist_ok
        self.calls.append(("private", private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(
        self, *, repo_id: str, folder_path: str, ignore_patterns: list[str] | None, **options: Any
    ) -> str:
        paths = [path.name for path in Path(folder_path).iterdir()]
        assert all((Path(folder_path) / path).is_file() for path in paths)
        for path in filter_repo_objects(paths, ignore_patterns=ignore_patterns):
            shutil.copy(Path(folder_path) / path, self.root / repo_id / path)
        self.calls.append(("commit", options))
        return "the commit"

    def hf_hub_download(self, repo_id: str, name: str, *, revision: str | None, token: object) -> str:
        if not (self.root / repo_id / name).exists():
            raise EntryNotFoundError(name)
        return str(self.root / repo_id / name)

    def snapshot_download(self, repo_id: str, *, allow_patterns: list[str], cache_dir: Path, **options: Any) -> str:
        self.calls.append(("download", options))
        if not (self.root / repo_id).exists():
            raise LocalEntryNotFoundError(f"no {repo_id} here")
        target = Path(cache_dir or self.root / "cache") / repo_id
        target.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in (self.root / repo_id).iterdir()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            shutil.copy(self.root / repo_id / name, target / name)
        return str(target)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(tmp_path / "hub")
    for name in ("HfApi", "hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(made, name))
    monkeypatch.chdir(tmp_path)
    return made


def wrapped(n: int = 2) -> muxwrap.Multiplex:
    return muxwrap.wrap(make("mlp"), n, example_input=batch("mlp", 1))


def test_a_model_goes_up_and_comes_back(hub: Hub, tmp_path: Path) -> None:
    model = wrapped()
    commit = model.push_to_hub(
        "me/model", private=True, token="t", revision="dev", create_pr=True, commit_message="New"
    )
    assert commit == "the commit"
    assert ("token", "t") in hub.calls and ("private", True) in hub.calls
    assert ("commit", {"commit_message": "New", "revision": "dev", "create_pr": True}) in hub.calls
    names = {path.name for path in (tmp_path / "hub/me/model").iterdir()}
    assert names == {"README.md", "muxwrap.json", "model.safetensors", "muxwrap.safetensors"}
    assert 'from_pretrained("me/model", backbone=...)' in (tmp_path / "hub/me/model/README.md").read_text()
    (tmp_path / "hub/me/model/notes.txt").write_text("not the model's")
    loaded = muxwrap.from_pretrained(
        "me/model", make("mlp", seed=9), revision="dev", token="t", cache_dir=tmp_path / "c", local_files_only=True
    )
    assert_same_state(loaded, model)
    asked = {"revision": "dev", "token": "t", "force_download": False, "local_files_only": True}
    assert hub.calls[-1] == ("download", asked)
    downloaded = {path.name for path in (tmp_path / "c/me/model").iterdir()}
    assert downloaded == {"muxwrap.json", "model.safetensors", "muxwrap.safetensors"}


def test_a_transformers_model_needs_nothing_else(hub: Hub) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    model = muxwrap.wrap(transformers.BertForSequenceClassification(config), 2)
    model.push_to_hub("me/bert")
    assert_same_state(muxwrap.from_pretrained("me/bert"), model)


def test_pickles_are_not_even_downloaded(hub: Hub, tmp_path: Path) -> None:
    wrapped().save_pretrained(tmp_path / "hub/me/pickled", safe_serialization=False)
    with pytest.raises(MuxwrapError, match=r"from_pretrained\('me/pickled'\): (muxwrap|pytorch_model).bin is a pickle"):
        muxwrap.from_pretrained("me/pickled", make("mlp"))
    assert not list((tmp_path / "hub/cache").rglob("*.bin"))
    muxwrap.from_pretrained("me/pickled", make("mlp"), allow_pickle=True)


def test_a_page_that_somebody_wrote_stays(hub: Hub, tmp_path: Path) -> None:
    page = tmp_path / "hub/me/model/README.md"
    wrapped(2).push_to_hub("me/model")
    wrapped(4).push_to_hub("me/model")
    assert "4 inputs per pass" in page.read_text()
    page.write_text("# My model")
    wrapped(2).push_to_hub("me/model")
    assert page.read_text() == "# My model"
    assert muxwrap.from_pretrained("me/model", make("mlp")).n == 2


def test_what_is_refused(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = wrapped()
    with pytest.raises(
        MuxwrapError, match=r"push_to_hub\('nobody/a'\): .*403 Forbidden; check the name of the repository"
    ):
        model.push_to_hub("nobody/a")
    with pytest.raises(
        MuxwrapError, match=r"from_pretrained\('me/none'\): no such folder, and as a repository: .*; check"
    ):
        muxwrap.from_pretrained("me/none")
    for name in ("none", "a/b/c", Path("me/none"), "/tmp/none", "hf://me/none"):
        with pytest.raises(
            MuxwrapError, match=r"no such folder, and no name of a repository; give what save_pretrained"
        ):
            muxwrap.from_pretrained(name)
    model.save_pretrained(tmp_path / "folder")
    with pytest.raises(MuxwrapError, match=r"folder', revision='v1'\): a folder has no revisions; leave revision= out"):
        muxwrap.from_pretrained(tmp_path / "folder", make("mlp"), revision="v1")
    (tmp_path / "hub/me/empty").mkdir(parents=True)
    with pytest.raises(MuxwrapError, match=r"from_pretrained\('me/empty'\): no muxwrap.json there"):
        muxwrap.from_pretrained("me/empty")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    for call in (lambda: model.push_to_hub("me/model"), lambda: muxwrap.from_pretrained("me/model")):
        with pytest.raises(MuxwrapError, match=r"repositories need huggingface_hub .*; pip install 'muxwrap\[hub\]'"):
            call()
