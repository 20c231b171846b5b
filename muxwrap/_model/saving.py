"""How a wrapped model is saved, and what its state dict holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from muxwrap import checkpoint
from muxwrap._hooks.components import Components
from muxwrap._hub.card import check_card
from muxwrap._hub.repositories import upload
from muxwrap._util.writer import Writer, check_options
from muxwrap.errors import MuxwrapError


class Saving(nn.Module):
    """The part of a wrapped model that saves it."""

    _unknown: Mapping[str, Any] = MappingProxyType({})
    """Fields of the file that this model was loaded from which a later version wrote."""

    def _components(self) -> Components:
        raise NotImplementedError

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        state_dict: Mapping[str, Tensor] | None = None,
        is_main_process: bool = True,
        save_function: Callable[..., Any] | None = None,
        safe_serialization: bool | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        card: Mapping[str, Any] | None = None,
        **unsupported: Any,
    ) -> None:
        """Write the wrapped model into a folder; :func:`from_pretrained` and :func:`load` read it back.

        All files replace those of an earlier save together: a save that is killed leaves the old model or the new one.

        ``muxwrap.json`` says how it was wrapped, and ``muxwrap.safetensors`` holds what was added. ``model.safetensors`` is
        the backbone alone, under its own names, and with the ``config.json`` of a Transformers model
        ``from_pretrained(folder)`` makes the bare model of it. A backbone whose names are not those of its config (PEFT's
        adapters, another head) is written as ``backbone.safetensors`` without a config, and ``from_pretrained`` fails.

        A ``README.md``, the model card, says what the model is; one that somebody wrote or edited by hand stays as it is.

        Args:
            save_directory: the folder; it is made if it is not there.
            state_dict: tensors to save instead of the model's own, under the wrapped model's names.
            is_main_process: other processes write nothing.
            save_function: called as ``save_function(tensors, path)`` in place of ``torch.save``; it writes
                ``pytorch_model.bin`` and ``muxwrap.bin`` instead of the files above, into a folder from which they are moved.
            safe_serialization: False writes these pickles, too, which :func:`load` reads if ``allow_pickle=True`` is given.
            max_shard_size: bytes, or a string such as ``"5GB"``. Nothing is cut; tensors that need more are refused.
            push_to_hub: refused; see :meth:`push_to_hub`.
            card: what was measured, for the model card: titles and, for each, a text, what :func:`evaluate` returned or what
                ``muxwrap.throughput.measure`` returned.
            unsupported: refused by name.

        Raises:
            MuxwrapError: an argument cannot be honoured, the tensors are not the model's, or the strategy or the demuxer has
                no registered name. Nothing is written then.
        """
        if push_to_hub:
            unsupported = {"push_to_hub": push_to_hub, **unsupported}
        check_options(unsupported)
        check_card(card, "save_pretrained")
        writer = Writer(save_function, safe_serialization, max_shard_size)
        if is_main_process:
            checkpoint.save(self, self._components(), save_directory, state_dict, writer, self._unknown, card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a multiplexed model",
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        card: Mapping[str, Any] | None = None,
    ) -> Any:
        """Upload the wrapped model to a repository of the Hugging Face hub; :func:`from_pretrained` reads it back.

        What is uploaded is what :meth:`save_pretrained` writes. A model card that somebody wrote or edited by hand stays. In
        several processes, call it in one.

        Args:
            repo_id: ``"user/name"``; the repository is made if it is not there.
            commit_message: of the one commit.
            private: whether a new repository is private.
            token: by default that of ``hf auth login``.
            revision: the branch; the main one by default.
            create_pr: open a pull request instead of committing.
            card: what was measured, see :meth:`save_pretrained`.

        Returns:
            The commit: a ``huggingface_hub.CommitInfo``.

        Raises:
            MuxwrapError: the model cannot be saved, ``huggingface_hub`` is not installed, or it refuses.
        """
        check_card(card, "push_to_hub")
        return upload(
            lambda folder: checkpoint.save(
                self, self._components(), folder, unknown=self._unknown, card=card, name=repo_id
            ),
            repo_id,
            commit_message=commit_message,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the tensors by name; where a parameter has several names, the later ones get copies of it.

        Files of safetensors take no memory twice, and the Trainer writes the state dict as it is. ``keep_vars=True`` gives the
        parameters themselves.
        """
        state = super().state_dict(*args, **kwargs)
        if kwargs.get("keep_vars", False):
            return state
        seen: set[int] = set()
        for name, parameter in self.named_parameters(remove_duplicate=False):
            key = kwargs.get("prefix", "") + name
            if id(parameter) in seen and key in state:
                state[key] = state[key].clone()
            seen.add(id(parameter))
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load tensors by the wrapped model's names.

        Raises:
            MuxwrapError: none of the names is this model's; ``strict=False`` would load nothing without a word.
        """
        if state_dict and not super().state_dict().keys() & state_dict.keys():
            name = next(iter(state_dict))
            raise MuxwrapError(
                f"load_state_dict(strict={strict}): none of the names ({name}, ...) is of the wrapped model; the backbone's "
                "own go into model.backbone, and muxwrap.load reads what save_pretrained wrote"
            )
        return super().load_state_dict(state_dict, strict, assign)
