"""Exit codes are a promise: 1 failed, 2 bad input, 3 refused by a gate."""

from components import errors
from components.errors import PotstillError, some_of


def _leaves(kind):
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


def test_every_error_has_one_of_the_promised_exit_codes():
    """And every one is reachable from the root, so one handler catches them all."""
    assert {leaf.exit_code for leaf in _leaves(PotstillError)} == {1, 2, 3, 130}
    assert errors.DataRefusedError.exit_code == 3
    assert errors.ParamsError.exit_code == 2


def test_lists_in_messages_are_bounded():
    """However many items, at most five are named and the rest counted."""
    assert some_of([1, 2, 3]) == "1, 2, 3"
    assert some_of(range(100)) == "0, 1, 2, 3, 4 and 95 more"
