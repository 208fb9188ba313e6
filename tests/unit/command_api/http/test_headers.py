"""What is read from headers: If-Match and traceparent."""

import pytest

from command_api.http.headers import InvalidPreconditionError, parse_if_match, valid_traceparent


@pytest.mark.parametrize(
    ("header", "holds", "fails"),
    [
        ('"5"', [5], [4, 6, 55]),
        ('"5.2"', [5], [2]),
        ('"5.any thing"'.replace(" ", "-"), [5], [4]),
        ('"4", "5"', [4, 5], [3]),
        ('"4","5.1" , "6"', [4, 5, 6], [3]),
        ("*", [1, 99], []),
        ('W/"5"', [], [5]),
        ('W/"5", "6"', [6], [5]),
        ('"abc"', [], [1]),
        ('""', [], [1]),
        ('"05"', [], [5]),
        ('"5x"', [], [5]),
    ],
)
def test_if_match_names_versions(header: str, holds: list[int], fails: list[int]) -> None:
    precondition = parse_if_match(header)

    assert all(precondition.holds(version) for version in holds)
    assert not any(precondition.holds(version) for version in fails)


@pytest.mark.parametrize("header", ["5", '"5', '5"', '"5" "6"', "", "  ", '*, "5"', 'w/"5"', '"a b"'])
def test_what_is_no_list_of_entity_tags_is_refused(header: str) -> None:
    with pytest.raises(InvalidPreconditionError):
        parse_if_match(header)


@pytest.mark.parametrize(
    ("header", "valid"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", True),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", True),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", False),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", False),
        ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-" + "x" * 200, False),
        ("", False),
        (None, False),
    ],
)
def test_only_valid_trace_contexts_are_taken(header: str | None, valid: bool) -> None:
    assert valid_traceparent(header) == (header if valid else None)
