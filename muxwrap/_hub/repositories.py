"""Up to a repository, and down from one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from muxwrap._hub.card import NAME, is_ours
from muxwrap.errors import MuxwrapError

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def upload(
    write: Callable[[Path], object],
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None,
    token: str | bool | None,
    revision: str | None,
    create_pr: bool,
) -> Any:
    """Write a model into a folder that is removed afterwards, and upload it in one commit.

    Args:
        write: is called with the folder.
        repo_id: see ``huggingface_hub.HfApi.create_repo``, which makes the repository if it is not there.
        commit_message: of the commit.
        private: whether a new repository is.
        token: of the user; by default the one that is logged in.
        revision: the branch.
        create_pr: open a pull request instead.

    Returns:
        The commit, a ``huggingface_hub.CommitInfo``.

    Raises:
        MuxwrapError: huggingface_hub is not installed, or it refuses.
    """
    call = f"push_to_hub({repo_id!r})"
    hub = _hub(call)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        try:
            api = hub.HfApi(token=token)
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                ignore_patterns=None if _may_write_page(hub, repo_id, revision, token) else [NAME],
            )
        except (OSError, ValueError) as error:
            raise MuxwrapError(
                f"{call}: {type(error).__name__}: {error}; check the name of the repository and the token (`hf auth login`)"
            ) from error


def folder_of(
    name: str | Path,
    files: list[str],
    *,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    force_download: bool,
    local_files_only: bool,
) -> Path:
    """Return a folder: the one of that name, or the cache's of a repository.

    Args:
        name: of a folder, or of a repository as ``user/name``.
        files: what is downloaded of a repository.
        revision: a branch, a tag or a commit.
        token: of the user; by default the one that is logged in.
        cache_dir: where downloads are kept.
        force_download: download again what is there.
        local_files_only: take what is in the cache.

    Raises:
        MuxwrapError: there is neither, huggingface_hub is not installed, or it refuses.
    """
    call = f"from_pretrained({str(name)!r})"
    if Path(name).is_dir():
        if revision is not None:
            raise MuxwrapError(f"{call[:-1]}, revision={revision!r}): a folder has no revisions; leave revision= out")
        return Path(name)
    if isinstance(name, Path) or not _REPOSITORY.fullmatch(name):
        raise MuxwrapError(
            f"{call}: no such folder, and no name of a repository; give what save_pretrained wrote, or 'user/name'"
        )
    hub = _hub(call)
    try:
        return Path(
            hub.snapshot_download(
                name,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                allow_patterns=files,
            )
        )
    except (OSError, ValueError, hub.errors.EntryNotFoundError) as error:
        raise MuxwrapError(
            f"{call}: no such folder, and as a repository: {type(error).__name__}: {error}; check the name, the revision and "
            "the token (`hf auth login`)"
        ) from error


def _hub(call: str) -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise MuxwrapError(
            f"{call}: repositories need huggingface_hub ({error}); pip install 'muxwrap[hub]'"
        ) from error
    return huggingface_hub


def _may_write_page(hub: Any, repo_id: str, revision: str | None, token: str | bool | None) -> bool:
    """Whether the repository has no page yet, or one that every save writes anew."""
    try:
        return is_ours(Path(hub.hf_hub_download(repo_id, NAME, revision=revision, token=token)))
    except (hub.errors.EntryNotFoundError, hub.errors.RevisionNotFoundError):
        return True
