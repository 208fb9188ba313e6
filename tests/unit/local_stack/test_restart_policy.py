from local_stack.processes.supervisor import DEATHS_WITHIN_SECONDS, RestartPolicy


def test_waits_twice_as_long_after_every_death_up_to_a_limit() -> None:
    policy = RestartPolicy(first_back_off_seconds=1, longest_back_off_seconds=5)

    assert [policy.back_off(deaths) for deaths in (1, 2, 3, 4, 5)] == [1, 2, 4, 5, 5]


def test_instant_deaths_leave_a_minute_to_make_room_and_use_up_the_default_patience_well_within_its_window() -> None:
    policy = RestartPolicy()

    waited = sum(policy.back_off(deaths) for deaths in range(1, policy.deaths))

    assert 60 < waited < DEATHS_WITHIN_SECONDS / 2
