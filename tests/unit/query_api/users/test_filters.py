from hypothesis import given
from hypothesis import strategies as st

from query_api.users.statements import after_prefix

TEXT = st.text(min_size=1, max_size=5)
EDGES = st.text(alphabet="\ud7ff\ue000\U0010ffff\U0010fffea", min_size=1, max_size=4)


@given(prefix=TEXT | EDGES, rest=st.text(max_size=5) | EDGES, other=TEXT | EDGES)
def test_the_range_of_a_prefix_holds_what_begins_with_it_and_nothing_else(prefix: str, rest: str, other: str) -> None:
    def within(text: str) -> bool:
        return prefix.encode() <= text.encode() < after_prefix(prefix).encode()

    if not prefix.strip("\U0010ffff"):
        return  # no user can have such a name

    assert within(prefix + rest)
    assert within(other) == other.startswith(prefix)
