"""What is done to a wrapped model in any order, beside a plain one.

Wrapped and unwrapped, trained, saved, loaded, copied, cast, compiled, with hooks of others, with other numbers of rows in a
mixture: after every step the bare model is still the plain one, and the wrapped one answers every row in its place.
"""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections import Counter as Counts
from typing import Any, ClassVar

import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn

import muxwrap
from benchmarks.fuzz.subjects import SUBJECTS, Counter, counters_of, hooks_left, made, without_counters
from muxwrap import Multiplex, MuxwrapError

STRATEGIES = ("identity", "slots", "hadamard", "sign", "orthogonal")
SIZES = (1, 2, 3, (1, 2, 4), (2, 4))
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.3}

wrapped = precondition(lambda self: self.model is not None)
bare = precondition(lambda self: self.model is None)


class Machine(RuleBasedStateMachine):
    """A model, wrapped or not, and a plain one that gets the same weights, modes and dtypes."""

    compiles = 1
    """How often a run compiles: that is dear."""
    seen: ClassVar[Counts[str]] = Counts()
    """How many runs there were, and steps."""

    @initialize(kind=st.sampled_from(sorted(SUBJECTS)), seed=st.integers(0, 9))
    def begin(self, kind: str, seed: int) -> None:
        """Make both."""
        self.kind, self.seed = kind, seed
        self.dtype = torch.float64
        self.net, self.plain = made(kind, seed), made(kind, seed)
        self.model: Any = None
        self.compiled = 0
        self.seen["runs"] += 1

    # -- what is done -------------------------------------------------------------------------------------------------

    @bare
    @rule(n=st.sampled_from(SIZES), strategy=st.sampled_from(STRATEGIES), check=st.sampled_from([False, "isolate"]))
    def wrap(self, n: Any, strategy: str, check: Any) -> None:
        """Wrap."""
        self.model = muxwrap.wrap(self.net, n, strategy, example_input=self.batch(1), check_finite=check)
        self.identity = strategy == "identity"
        self.keys, self.hooks = set(self.model.state_dict()), hooks_left(self.net)

    @wrapped
    @rule()
    def unwrap(self) -> None:
        """Unwrap: the keys and the hooks are the plain model's."""
        self.net, self.model = muxwrap.unwrap(self.model), None
        assert self.net.state_dict().keys() == self.plain.state_dict().keys()
        assert not hooks_left(self.net) and vars(self.net).keys() == vars(self.plain).keys()

    @wrapped
    @rule(data=st.data())
    def change_n(self, data: st.DataObject) -> None:
        """Put another number of rows into a mixture."""
        self.model.n = data.draw(st.sampled_from(self.model.sizes))

    @wrapped
    @rule(seed=st.integers(0, 99))
    def train_step(self, seed: int) -> None:
        """Step of SGD, in which every weight gets a gradient; the plain model gets the weights of the other."""
        self.model.train()
        x = self.batch(3 * self.model.n + 1, seed)
        optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)
        frozen = {name: p.clone() for name, p in self.net.named_parameters() if not p.requires_grad}
        weight = torch.randn(self.model(x).shape, generator=torch.Generator().manual_seed(seed)).to(self.dtype)
        optimizer.zero_grad()
        out = self.model(x)
        if out.requires_grad:
            (out * weight).sum().backward()
        trained = [p for p in self.net.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)
        optimizer.step()
        assert all(torch.equal(self.net.get_parameter(name), p) for name, p in frozen.items())
        self.model.eval()
        self.plain.load_state_dict(self.net.state_dict())

    @wrapped
    @rule(seed=st.integers(10, 19))
    def save_and_load(self, seed: int) -> None:
        """Go on with what was loaded into a model of other weights: its answers are those of the saved one."""
        x = self.batch(5)
        with tempfile.TemporaryDirectory() as folder:
            self.model.save_pretrained(folder)
            loaded = muxwrap.load(folder, made(self.kind, seed).to(self.dtype))
        assert torch.equal(self.ask(loaded, x), self.ask(self.model, x))
        assert (loaded.n, loaded.sizes, loaded.check_finite) == (
            self.model.n,
            self.model.sizes,
            self.model.check_finite,
        )
        if "classes" in vars(self.plain):  # an attribute is not saved
            loaded.classes = self.plain.classes
        self.take(loaded.eval())

    @rule(pickled=st.booleans())
    def copy(self, pickled: bool) -> None:
        """Go on with a copy, which answers without the original."""
        whole = self.net if self.model is None else self.model
        twin = pickle.loads(pickle.dumps(whole)) if pickled else copy.deepcopy(whole)
        assert torch.equal(self.ask(twin, self.batch(5)), self.ask(whole, self.batch(5)))
        with torch.no_grad():
            for p in whole.parameters():
                p.fill_(torch.nan)
        self.take(twin)

    @rule(dtype=st.sampled_from(DTYPES))
    def cast(self, dtype: torch.dtype) -> None:
        """Cast both."""
        (self.net if self.model is None else self.model).to(dtype)
        self.plain.to(dtype)
        self.dtype = dtype

    @wrapped
    @precondition(lambda self: self.compiled < self.compiles)
    @rule(rows=st.integers(1, 9))
    def compile(self, rows: int) -> None:
        """Compiled in one graph, it answers the same."""
        self.compiled += 1
        torch._dynamo.reset()
        compiled = torch.compile(self.model, backend="eager", fullgraph=True)
        self.close(self.ask(compiled, self.batch(rows)), self.ask(self.model, self.batch(rows)))

    @rule(data=st.data(), before=st.booleans())
    def hook(self, data: st.DataObject, before: bool) -> None:
        """Let somebody else put a hook on."""
        module = self.net.get_submodule(data.draw(st.sampled_from(SUBJECTS[self.kind].modules)))
        (module.register_forward_pre_hook if before else module.register_forward_hook)(Counter())

    @rule()
    def unhook(self) -> None:
        """Take the hooks of others off."""
        without_counters(self.net)

    @wrapped
    @rule()
    def detach_and_attach(self) -> None:
        """Take the hooks off, and put them on again."""
        assert self.model.detach() is self.net and not hooks_left(self.net)
        try:
            self.model(self.batch(2))
        except MuxwrapError as error:
            assert "attach()" in str(error)
        else:
            raise AssertionError("a detached model answers")
        self.model.attach()

    @wrapped
    @rule(seed=st.integers(0, 99))
    def load_state(self, seed: int) -> None:
        """Load the tensors again after they were moved."""
        x, state = self.batch(5, seed), copy.deepcopy(self.model.state_dict())
        before = self.ask(self.model, x)
        with torch.no_grad():
            for p in self.model.parameters():
                p.add_(1)
        self.model.load_state_dict(state)
        assert torch.equal(self.ask(self.model, x), before)

    @rule(value=st.integers(1, 9))
    def set_attribute(self, value: int) -> None:
        """Set what the backbone has, on whatever is there."""
        (self.net if self.model is None else self.model).classes = value
        self.plain.classes = value
        assert self.net.classes == value

    @wrapped
    @precondition(lambda self: self.kind != "tokens")
    @rule(row=st.integers(0, 6))
    def poison(self, row: int) -> None:
        """A bad row leaves its companions alone where it is isolated, and else spoils its mixture alone."""
        x = self.batch(7)
        x[row] = torch.nan
        out, n = self.ask(self.model, x), self.model.n
        spoilt = out.isnan().flatten(1).any(1)
        alone = torch.arange(7) == row if self.model.check_finite else torch.arange(7) // n == row // n
        if row and not self.model.check_finite and 7 % n and 7 // n != row // n:
            spoilt, alone = spoilt[: 7 // n * n], alone[: 7 // n * n]  # the last mixture is filled with the first rows
        assert torch.equal(spoilt, alone) or (row < n and not self.model.check_finite)

    @wrapped
    @rule(ids=st.lists(st.integers(0, 2), min_size=6, max_size=6))
    def keep_apart(self, ids: list[int]) -> None:
        """Rows of an owner are answered as if they were alone."""
        x = self.batch(6)
        with self.model.grouped_by(ids):
            out = self.ask(self.model, x)
        for owner in set(ids):
            rows = [row for row, each in enumerate(ids) if each == owner]
            self.close(out[rows], self.ask(self.model, x[rows]))

    @wrapped
    @rule(rows=st.integers(1, 5))
    def ask_otherwise(self, rows: int) -> None:
        """A view of every n, a functional call and an ensemble answer as they should."""
        x, n = self.batch(rows), self.model.n
        out = self.ask(self.model, x)
        for size in self.model.sizes:
            with self.model.at(n=size):
                assert torch.equal(self.ask(self.model.fixed(size), x), self.ask(self.model, x))
        assert self.model.n == n
        state = dict(self.model.named_parameters())
        assert torch.equal(self.ask(lambda x: torch.func.functional_call(self.model, state, (x,)), x), out)
        together = self.ask(self.model.ensemble, x)
        self.close(torch.cat([self.ask(self.model.ensemble, x[k : k + 1]) for k in range(rows)]), together)

    @rule(data=st.data(), trains=st.booleans())
    def freeze(self, data: st.DataObject, trains: bool) -> None:
        """Let a part train or not."""
        path = data.draw(st.sampled_from(SUBJECTS[self.kind].modules[1:]))
        self.net.get_submodule(path).requires_grad_(trains)

    # -- what holds after every step ----------------------------------------------------------------------------------

    @invariant()
    def the_bare_model_is_the_plain_one(self) -> None:
        """Bitwise."""
        self.seen["steps"] += 1
        x = self.batch(5)
        assert torch.equal(self.ask(self.net, x), self.ask(self.plain, x))

    @invariant()
    @wrapped
    def every_row_is_answered_in_its_place(self) -> None:
        """A batch's answers are those of its groups, one after the other; at n=1 without a code those of the plain model."""
        x, n = self.batch(2 * self.model.n + 1), self.model.n
        out = self.ask(self.model, x)
        assert out.shape == self.ask(self.plain, x).shape
        self.close(torch.cat([self.ask(self.model, x[start : start + n]) for start in (0, n)]), out[: 2 * n])
        if self.identity and self.model.sizes == (1,):
            self.close(out, self.ask(self.plain, x))

    @invariant()
    @wrapped
    def it_is_whole(self) -> None:
        """Names and hooks are those of the beginning, and hooks of others see every call once."""
        assert set(self.model.state_dict()) == self.keys and hooks_left(self.net) == self.hooks
        assert self.model.backbone is self.net and not self.model.training and not self.net.training
        before = [counter.calls for counter in counters_of(self.net)]
        self.ask(self.model, self.batch(3))
        assert [counter.calls for counter in counters_of(self.net)] == [calls + 1 for calls in before]

    # -- how ----------------------------------------------------------------------------------------------------------

    def batch(self, rows: int, salt: int = 0) -> Tensor:
        """Return a batch."""
        made = SUBJECTS[self.kind].batch(rows, torch.Generator().manual_seed(100 * self.seed + salt))
        return made.to(self.dtype) if made.is_floating_point() else made

    def ask(self, model: Any, x: Tensor) -> Tensor:
        """Return the answers."""
        with torch.no_grad():
            out: Tensor = model(x)
        return out

    def close(self, found: Tensor, expected: Tensor) -> None:
        """Compare answers of batches of other sizes, whose products are summed in another order."""
        torch.testing.assert_close(found, expected, atol=TOLERANCE[self.dtype], rtol=TOLERANCE[self.dtype])

    def take(self, whole: nn.Module) -> None:
        """Go on with another model."""
        self.model = whole if isinstance(whole, Multiplex) else None
        self.net = whole.backbone if isinstance(whole, Multiplex) else whole
