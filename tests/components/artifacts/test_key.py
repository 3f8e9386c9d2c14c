"""Keys: any field changes them, order does not."""

from hypothesis import given
from hypothesis import strategies as st

from components.artifacts.key import differences, library_versions, make_key

VALUES = st.one_of(st.integers(-5, 5), st.text(max_size=3), st.booleans(), st.none())
FIELDS = st.dictionaries(st.text(min_size=1, max_size=3), VALUES, max_size=5)


@given(FIELDS, FIELDS)
def test_two_keys_are_equal_only_when_all_fields_are(one, other):
    """The key is a function of the fields, and distinguishes 1 from True and from '1'."""
    same = repr(sorted(one.items())) == repr(sorted(other.items()))

    assert (make_key("k", one).digest == make_key("k", other).digest) == same


@given(FIELDS)
def test_order_of_the_fields_does_not_matter(fields):
    """A mapping written in another order is the same key."""
    backwards = dict(reversed(fields.items()))

    assert make_key("k", fields) == make_key("k", backwards)


def test_a_difference_is_a_dotted_name_with_both_values():
    """That is what `potstill plan` shows."""
    ours = {"params": {"model": {"width": 8}}, "code": {"components.training": "a" * 64}}
    theirs = {"params": {"model": {"width": 4}}, "code": {"components.training": "b" * 64}}

    assert differences(ours, theirs) == (
        "code.components.training: bbbbbbbb -> aaaaaaaa",
        "params.model.width: 4 -> 8",
    )


def test_the_build_of_a_library_is_not_part_of_its_version():
    """torch 2.13.0+cpu and 2.13.0+cu126 are one version and two fingerprints."""
    assert "+" not in library_versions(["torch"])["torch"]
