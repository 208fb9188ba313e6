"""Given a state, when a command comes, then this event or refusal: the whole table."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from command_api.users.commands import (
    ChangeEmail,
    ChangePassword,
    ChangeProfile,
    ChangeUsername,
    Command,
    DeactivateUser,
    EraseUser,
    ImportsUser,
    ReactivateUser,
    RegisterUser,
    VerifyEmail,
)
from command_api.users.decisions import decide, merge
from command_api.users.refusals import (
    AttributesRefusedError,
    EmailNotCurrentError,
    RefusedError,
    UserIsDeactivatedError,
    UserNotFoundError,
)
from command_api.users.state import ErasedUser, Registered, State, Unregistered, evolve
from events.user_events import (
    PublicUser,
    UserDeactivated,
    UserEmailChanged,
    UserEmailVerified,
    UserErased,
    UserEventData,
    UserPasswordChanged,
    UserProfileChanged,
    UserReactivated,
    UserRegistered,
    UserUsernameChanged,
)

ID = UUID("0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a")
BEFORE = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1)
ANN = PublicUser(
    id=ID,
    email="ann@example.com",
    username="ann",
    email_verified=False,
    display_name="Ann",
    attributes={"plan": "pro", "limits": {"a": 1}},
    is_active=True,
    status="active",
    version=7,
    created_at=BEFORE,
    updated_at=BEFORE,
)
ACTIVE = Registered(ANN)
VERIFIED = Registered(ANN.model_copy(update={"email_verified": True}))
DEACTIVATED = Registered(ANN.model_copy(update={"is_active": False, "status": "deactivated"}))
ERASED = ErasedUser(ID, 8)
NOBODY = Unregistered(ID)

PASSWORD = {"password": "correct horse"}
CHANGES: list[Command] = [
    ChangeEmail(email="bob@example.com"),
    VerifyEmail(email="ann@example.com"),
    ChangeUsername(username="bob"),
    ChangePassword(**PASSWORD),
    ChangeProfile(display_name="Bob"),
    DeactivateUser(),
    ReactivateUser(),
]


def test_a_registration_is_an_active_unverified_user_at_version_1() -> None:
    command = RegisterUser(email="ann@example.com", username="ann", display_name="Ann", attributes={"a": 1}, **PASSWORD)

    event = decide(NOBODY, command, NOW)

    assert event == UserRegistered(
        user=PublicUser(
            id=ID,
            email="ann@example.com",
            username="ann",
            email_verified=False,
            display_name="Ann",
            attributes={"a": 1},
            is_active=True,
            status="active",
            version=1,
            created_at=NOW,
            updated_at=NOW,
        ),
        previous={},
    )


def test_an_imported_user_is_as_they_were_elsewhere_from_now_on() -> None:
    command = ImportsUser(
        email="ann@example.com",
        username="ann",
        created_at="2019-03-04T05:06:07Z",
        email_verified=True,
        status="deactivated",
        deactivated_reason="left",
    )

    event = decide(NOBODY, command, NOW)

    assert isinstance(event, UserRegistered)
    user = event.user
    assert (user.version, user.created_at, user.updated_at) == (1, datetime(2019, 3, 4, 5, 6, 7, tzinfo=UTC), NOW)
    assert (user.email_verified, user.status, user.is_active, event.reason) == (True, "deactivated", False, "left")


HAPPENS: list[tuple[State, Command, type[UserEventData], dict[str, Any], dict[str, Any]]] = [
    (
        ACTIVE,
        ChangeEmail(email="bob@example.com"),
        UserEmailChanged,
        {"email": "bob@example.com"},
        {"email": "ann@example.com"},
    ),
    (
        VERIFIED,
        ChangeEmail(email="bob@example.com"),
        UserEmailChanged,
        {"email": "bob@example.com", "email_verified": False},
        {"email": "ann@example.com", "email_verified": True},
    ),
    # Another case is another address to show, though not to compare.
    (
        ACTIVE,
        ChangeEmail(email="Ann@example.com"),
        UserEmailChanged,
        {"email": "Ann@example.com"},
        {"email": "ann@example.com"},
    ),
    (
        ACTIVE,
        VerifyEmail(email="ann@example.com"),
        UserEmailVerified,
        {"email_verified": True},
        {"email_verified": False},
    ),
    (ACTIVE, ChangeUsername(username="bob"), UserUsernameChanged, {"username": "bob"}, {"username": "ann"}),
    (ACTIVE, ChangePassword(**PASSWORD), UserPasswordChanged, {}, {}),
    (ACTIVE, ChangeProfile(display_name=None), UserProfileChanged, {"display_name": None}, {"display_name": "Ann"}),
    (
        ACTIVE,
        ChangeProfile(attributes={"plan": None, "limits": {"b": 2}}),
        UserProfileChanged,
        {"attributes": {"limits": {"a": 1, "b": 2}}},
        {"attributes": {"plan": "pro", "limits": {"a": 1}}},
    ),
    (
        ACTIVE,
        ChangeProfile(attributes=None),
        UserProfileChanged,
        {"attributes": {}},
        {"attributes": {"plan": "pro", "limits": {"a": 1}}},
    ),
    # 1, 1.0 and True are equal to Python, but not to a reader of JSON.
    (
        ACTIVE,
        ChangeProfile(attributes={"limits": {"a": True}}),
        UserProfileChanged,
        {"attributes": {"plan": "pro", "limits": {"a": True}}},
        {"attributes": {"plan": "pro", "limits": {"a": 1}}},
    ),
    (
        ACTIVE,
        DeactivateUser(reason="left"),
        UserDeactivated,
        {"is_active": False, "status": "deactivated"},
        {"is_active": True, "status": "active"},
    ),
    (
        DEACTIVATED,
        ReactivateUser(reason="back"),
        UserReactivated,
        {"is_active": True, "status": "active"},
        {"is_active": False, "status": "deactivated"},
    ),
]


@pytest.mark.parametrize(("state", "command", "kind", "after", "previous"), HAPPENS)
def test_a_change_carries_the_user_after_it_and_the_old_values(
    state: Registered, command: Command, kind: type[UserEventData], after: dict[str, Any], previous: dict[str, Any]
) -> None:
    event = decide(state, command, NOW)

    assert isinstance(event, kind)
    expected = state.user.model_copy(update={**after, "version": 8, "updated_at": NOW})
    assert event.user.model_dump_json() == expected.model_dump_json()
    assert event.previous == previous
    assert getattr(event, "reason", None) == getattr(command, "reason", None)


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (ACTIVE, ChangeEmail(email="ann@example.com")),
        (VERIFIED, VerifyEmail(email="ann@example.com")),
        (ACTIVE, ChangeUsername(username="ann")),
        (ACTIVE, ChangeProfile()),
        (ACTIVE, ChangeProfile(display_name="Ann")),
        (ACTIVE, ChangeProfile(attributes={"limits": {"a": 1}})),
        (ACTIVE, ChangeProfile(attributes={"gone": None})),
        (ACTIVE, ReactivateUser(reason="again")),
        (DEACTIVATED, DeactivateUser(reason="again")),
        (DEACTIVATED, ChangeEmail(email="ann@example.com")),
        (DEACTIVATED, ChangeProfile(display_name="Ann")),
        (ERASED, EraseUser()),
    ],
)
def test_what_is_so_already_needs_no_event(state: State, command: Command) -> None:
    assert decide(state, command, NOW) is None


@pytest.mark.parametrize(
    "command",
    [
        *(command for command in CHANGES if not isinstance(command, ReactivateUser | DeactivateUser)),
        # What an active user's state would refuse in words of its own.
        VerifyEmail(email="old@example.com"),
        ChangeProfile.model_construct({"attributes"}, attributes={"more": "x" * 16_384}),
    ],
)
def test_a_deactivated_user_refuses_every_other_change(command: Command) -> None:
    with pytest.raises(UserIsDeactivatedError):
        decide(DEACTIVATED, command, NOW)


@pytest.mark.parametrize("state", [NOBODY, ERASED])
@pytest.mark.parametrize("command", CHANGES)
def test_nobody_and_the_erased_cannot_be_changed(state: State, command: Command) -> None:
    with pytest.raises(UserNotFoundError):
        decide(state, command, NOW)


@pytest.mark.parametrize("state", [ACTIVE, DEACTIVATED])
def test_an_erasure_takes_a_version_and_keeps_nothing_else(state: State) -> None:
    assert decide(state, EraseUser(), NOW) == UserErased(ID, 8)


def test_nobody_cannot_be_erased() -> None:
    with pytest.raises(UserNotFoundError):
        decide(NOBODY, EraseUser(), NOW)


def test_only_the_current_address_can_be_verified() -> None:
    with pytest.raises(EmailNotCurrentError):
        decide(ACTIVE, VerifyEmail(email="old@example.com"), NOW)


@pytest.mark.parametrize(
    "patch",
    [
        {"more": "x" * 16_384},
        # Each is fine alone, but not after the merge.
        {"limits": {"a": {"b": {"c": {"d": {}}}}}},
    ],
)
def test_attributes_that_would_be_too_large_or_too_deep_after_the_merge_are_refused(patch: dict[str, Any]) -> None:
    deep = ANN.model_copy(update={"attributes": {"limits": {"x": "y" * 100}}})

    with pytest.raises(AttributesRefusedError, match="after the merge"):
        decide(Registered(deep), ChangeProfile.model_construct({"attributes"}, attributes=patch), NOW)


def test_a_clock_that_was_set_back_does_not_make_a_user_younger() -> None:
    event = decide(ACTIVE, ChangeUsername(username="bob"), BEFORE - timedelta(days=1))

    assert isinstance(event, UserUsernameChanged)
    assert event.user.updated_at == BEFORE


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    # RFC 7396, appendix A, as far as target and patch are objects.
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        (["a", "b"], {"a": "b"}, {"a": "b"}),
    ],
)
def test_merges_as_rfc_7396_has_it(target: Any, patch: dict[str, Any], result: dict[str, Any]) -> None:
    before = repr(target)

    assert merge(target, patch) == result
    assert repr(target) == before, "the target is not touched"


def test_an_event_of_another_user_or_version_is_a_bug() -> None:
    event = UserUsernameChanged(user=ANN.model_copy(update={"version": 9}), previous={})

    with pytest.raises(AssertionError, match="left out"):
        evolve(ACTIVE, event)
    with pytest.raises(AssertionError, match="another user"):
        evolve(Unregistered(UUID(int=1)), event)


def test_refusals_repeat_no_ones_data() -> None:
    for command in CHANGES:
        for state in (NOBODY, DEACTIVATED):
            try:
                decide(state, command, NOW)
            except RefusedError as refusal:
                assert "ann" not in str(refusal)  # noqa: PT017 - the message is what is tested
