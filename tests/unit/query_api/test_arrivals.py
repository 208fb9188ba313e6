from uuid import uuid4

import pytest

from chassis.problems import Problem
from query_api.arrivals import Arrivals

ANN, BOB = uuid4(), uuid4()


def arrivals(limit: int = 10) -> Arrivals:
    return Arrivals(limit=limit, hearing=lambda: True)


def test_a_notification_wakes_those_it_names() -> None:
    table = arrivals()
    with table.waiter("users", [ANN]) as for_ann, table.waiter("users", [BOB]) as for_bob:
        table.moved("users", f"{uuid4()} {ANN}")

        assert (for_ann.is_set(), for_bob.is_set()) == (True, False)


def test_another_projection_wakes_nobody() -> None:
    table = arrivals()
    with table.waiter("users", [ANN]) as waiting:
        table.moved("timeline", str(ANN))

        assert not waiting.is_set()


@pytest.mark.parametrize("payload", ["", "not an id"])
def test_a_notification_without_ids_wakes_all(payload: str) -> None:
    table = arrivals()
    with table.waiter("users", [ANN]) as for_ann, table.waiter("users", [BOB]) as for_bob:
        table.moved("users", payload)

        assert for_ann.is_set()
        assert for_bob.is_set()


def test_refuses_one_waiter_too_many_and_takes_the_next_when_one_has_gone() -> None:
    table = arrivals(limit=1)
    with table.waiter("users", [ANN]):
        with pytest.raises(Problem) as raised, table.waiter("users", [ANN]):
            pass
        assert raised.value.type.slug == "busy"
        assert raised.value.headers["Retry-After"] == "1"

    with table.waiter("users", [ANN]):
        assert table.waiting == 1


def test_who_has_gone_leaves_nothing_behind() -> None:
    table = arrivals()
    with table.waiter("users", [ANN, BOB]), table.waiter("users", [ANN]):
        pass

    assert table._events == {"users": {}}


def test_looks_more_often_while_it_hears_nothing() -> None:
    deaf = Arrivals(limit=1, hearing=lambda: False)

    assert deaf.poll_seconds < arrivals().poll_seconds
