"""A topic is gone where two looks miss it, and not where one broker does not know it yet."""

from projectors.consumer.loop import MISSING_SECONDS, WATCH_SECONDS, Sight


def test_one_wrong_answer_is_asked_again_soon_and_forgotten() -> None:
    sight = Sight()
    for now in (0.0, 10.0):
        sight.note(now, there=False)
        assert (sight.is_gone, sight.patience) == (False, MISSING_SECONDS)
        sight.note(now + MISSING_SECONDS, there=True)
        assert (sight.is_gone, sight.patience) == (False, WATCH_SECONDS)


def test_what_two_looks_miss_is_gone_until_one_finds_it() -> None:
    sight = Sight()
    # The second asks too soon: the same broker may just have started. Of the fourth there is no answer.
    looks = [(0.0, False), (0.1, False), (1.0, False), (2.0, None), (3.0, True)]
    gone = []
    for periods, there in looks:
        sight.note(periods * MISSING_SECONDS, there=there)
        gone.append(sight.is_gone)

    assert gone == [False, False, True, True, False]


def test_two_looks_with_an_outage_between_them_have_nothing_to_do_with_one_another() -> None:
    sight = Sight()
    sight.note(0.0, there=False)
    sight.note(MISSING_SECONDS, there=None)
    sight.note(100.0, there=False)
    assert not sight.is_gone
