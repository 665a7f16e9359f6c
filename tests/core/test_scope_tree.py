"""ScopeTree beside a model: what is cancelled is what its two invariants say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trale_py import Cancelled
from trale_py.core.scope_tree import ScopeTree, without_cancelled


def test_a_cancellation_reaches_what_is_below_up_to_a_shield() -> None:
    top, middle, shielded, below = (ScopeTree(shield=n == 2) for n in range(4))
    for parent, child in [(None, top), (top, middle), (middle, shielded), (shielded, below)]:
        child._link(parent, None)
    top._deliver("reason")
    assert [node._is_cancelled for node in (top, middle, shielded, below)] == [
        True,
        True,
        False,
        False,
    ]
    shielded._shield = False
    shielded._update()
    assert below._is_cancelled
    assert below._cancel_reason() == "reason"


def test_the_first_reason_is_kept_and_the_nearest_is_told() -> None:
    outer, inner = ScopeTree(), ScopeTree()
    outer._link(None, None)
    inner._link(outer, None)
    outer._deliver("outer")
    outer._deliver("later")
    assert inner._cancel_reason() == "outer"
    inner._deliver("inner")
    assert inner._cancel_reason() == "inner"
    assert outer._cancel_reason() == "outer"


def test_a_scope_cancelled_before_it_is_entered_is_cancelled_on_entry() -> None:
    scope = ScopeTree()
    scope._mark(None)
    assert not scope._is_cancelled
    scope._link(None, None)
    assert scope._is_cancelled


def test_a_deep_tree_needs_no_stack() -> None:
    nodes = [ScopeTree() for _ in range(20_000)]
    for parent, child in zip([None, *nodes], nodes, strict=False):
        child._link(parent, None)
    nodes[0]._deliver(None)
    assert all(node._is_cancelled for node in nodes)


STEP = st.tuples(
    st.sampled_from(["add", "cancel", "shield", "unshield", "move", "unlink"]),
    st.integers(0, 30),
    st.integers(0, 30),
)


@given(st.lists(STEP, max_size=60))
def test_random_trees(steps: list[tuple[str, int, int]]) -> None:
    root = ScopeTree()
    root._link(None, None)
    nodes = [root]

    def above(node: ScopeTree) -> list[ScopeTree]:
        found, at = [], node
        while at._parent is not None:
            at = at._parent
            found.append(at)
        return found

    def expected(node: ScopeTree) -> bool:
        if node._called:
            return True
        if node._shield or node._parent is None:
            return False
        return expected(node._parent)

    for what, which, where in steps:
        node, other = nodes[which % len(nodes)], nodes[where % len(nodes)]
        if what == "add":
            child = ScopeTree(shield=where % 5 == 0)
            child._link(node, None)
            nodes.append(child)
        elif what == "cancel":
            node._deliver(which)
        elif what in ("shield", "unshield"):
            node._shield = what == "shield"
            node._update()
        elif what == "move" and node not in [other, *above(other), root]:
            node._move(other)
        elif what == "unlink" and not node._children and node is not root:
            node._unlink()
            nodes.remove(node)
        for each in nodes:
            assert each._is_cancelled == expected(each)
            assert each._parent is None or each in each._parent._children


def test_cancelled_is_taken_out_of_groups() -> None:
    cancelled = Cancelled.__new__(Cancelled)
    real = ValueError("real")
    assert without_cancelled(real) == (real, None)
    assert without_cancelled(cancelled) == (None, cancelled)
    only = BaseExceptionGroup("g", [BaseExceptionGroup("inner", [cancelled])])
    assert without_cancelled(only) == (None, cancelled)
    rest, found = without_cancelled(BaseExceptionGroup("g", [real, cancelled]))
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.exceptions == (real,)
    assert found is cancelled
