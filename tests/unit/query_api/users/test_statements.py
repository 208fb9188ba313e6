import re
from itertools import chain, combinations

from query_api.users.filters import SORTS
from query_api.users.statements import CONDITIONS, PageShape, count_sql, is_walked, page_sql, pages_sql


def test_parameters_are_numbered_without_gaps_in_every_shape() -> None:
    subsets = chain.from_iterable(combinations(CONDITIONS, size) for size in range(4))
    for filters in subsets:
        for sort in SORTS:
            for after, skip, tokens in ((False, False, False), (True, False, True), (False, True, True)):
                sql = page_sql(PageShape(1, sort, filters, after, skip, tokens)).text
                numbers = [int(number) for number in re.findall(r"\$(\d+)", sql)]
                assert sorted(set(numbers)) == list(range(1, max(numbers) + 1)), sql
            shape = PageShape(1, sort, filters, after=True)
            if is_walked(shape):
                numbers = [int(number) for number in re.findall(r"\$(\d+)", pages_sql(shape))]
                assert sorted(set(numbers)) == list(range(1, max(numbers) + 1))
        assert count_sql(1, filters).count("$") == sum(CONDITIONS[name].sql.count("{") for name in filters)


def test_only_competing_indexes_are_planned_anew() -> None:
    def planned(sort: str, *filters: str) -> bool:
        return page_sql(PageShape(1, sort, filters)).plan_each_time

    assert not planned("-created_at")
    assert not planned("-created_at", "created_after", "status=active")
    assert not planned("-created_at", "email", "updated_after")
    assert planned("-created_at", "updated_after")
    assert planned("username", "email_prefix")


def test_only_pages_along_one_index_are_read_together() -> None:
    assert is_walked(PageShape(1, "-created_at", after=True))
    assert is_walked(PageShape(1, "-created_at", ("created_after", "status=active"), after=True))
    assert not is_walked(PageShape(1, "-created_at", ("email",), after=True))
    assert not is_walked(PageShape(1, "-created_at", ("updated_after",), after=True))
    assert not is_walked(PageShape(1, "-created_at", skip=True))
    assert not is_walked(PageShape(1, "-created_at", tokens=True))
