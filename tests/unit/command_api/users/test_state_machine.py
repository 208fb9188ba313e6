"""Commands in random order against a simple model: no gaps in versions, and decisions as the model says."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from command_api.users.commands import (
    ChangeEmail,
    ChangePassword,
    ChangeProfile,
    ChangeUsername,
    Command,
    DeactivateUser,
    EraseUser,
    ReactivateUser,
    RegisterUser,
    VerifyEmail,
)
from command_api.users.decisions import decide
from command_api.users.refusals import RefusedError
from command_api.users.state import ErasedUser, Registered, State, Unregistered, evolve, version_of
from events.user_events import USER_EVENTS, Event, UserErased, UserSnapshot

ID = UUID("0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a")
EMAILS = st.sampled_from(["ann@example.com", "Ann@example.com", "bob@example.com"])
NAMES = st.sampled_from(["ann", "bob", "Ann"])
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2)
PATCHES = st.dictionaries(st.sampled_from("abc"), SCALARS | st.dictionaries(st.sampled_from("xy"), SCALARS), max_size=3)


class UserMachine(RuleBasedStateMachine):
    """One user's life."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State = Unregistered(ID)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.history: list[Event] = []
        self.status = "nobody"
        self.fields: dict[str, Any] = {}

    def send(self, command: Command) -> bool:
        """Decide and evolve, twice, and say whether something happened; refusals change nothing."""
        self.now += timedelta(seconds=1)
        event = decide(self.state, command, self.now)
        assert decide(self.state, command, self.now) == event, "deterministic"
        if event is None:
            return False
        after = evolve(self.state, event)
        assert evolve(self.state, event) == after, "deterministic"
        self.state = after
        self.history.append(event)
        return True

    def refused(self, command: Command) -> bool:
        before = self.state
        try:
            self.send(command)
        except RefusedError:
            return self.state is before
        return False

    @initialize(email=EMAILS, username=NAMES)
    def register(self, email: str, username: str) -> None:
        assert self.send(RegisterUser(email=email, username=username, password="correct horse"))
        self.status = "active"
        self.fields = {"email": email, "username": username, "email_verified": False, "display_name": None}
        self.fields["attributes"] = {}

    @precondition(lambda self: self.status == "active")
    @rule(email=EMAILS)
    def change_email(self, email: str) -> None:
        assert self.send(ChangeEmail(email=email)) == (email != self.fields["email"])
        if email != self.fields["email"]:
            self.fields |= {"email": email, "email_verified": False}

    @precondition(lambda self: self.status == "active")
    @rule()
    def verify_email(self) -> None:
        assert self.send(VerifyEmail(email=self.fields["email"])) == (not self.fields["email_verified"])
        self.fields["email_verified"] = True

    @precondition(lambda self: self.status == "active")
    @rule(username=NAMES)
    def change_username(self, username: str) -> None:
        assert self.send(ChangeUsername(username=username)) == (username != self.fields["username"])
        self.fields["username"] = username

    @precondition(lambda self: self.status == "active")
    @rule()
    def change_password(self) -> None:
        assert self.send(ChangePassword(password="correct horse"))

    @precondition(lambda self: self.status == "active")
    @rule(patch=PATCHES)
    def change_attributes(self, patch: dict[str, Any]) -> None:
        attributes = dict(self.fields["attributes"])
        for name, value in patch.items():
            if value is None:
                attributes.pop(name, None)
            elif isinstance(value, dict):
                old = attributes.get(name)
                kept = dict(old) if isinstance(old, dict) else {}
                kept.update(value)
                attributes[name] = {key: item for key, item in kept.items() if key not in value or item is not None}
            else:
                attributes[name] = value
        assert self.send(ChangeProfile(attributes=patch)) == (_exact(attributes) != _exact(self.fields["attributes"]))
        self.fields["attributes"] = attributes

    @precondition(lambda self: self.status in {"active", "deactivated"})
    @rule()
    def deactivate(self) -> None:
        assert self.send(DeactivateUser()) == (self.status == "active")
        self.status = "deactivated"

    @precondition(lambda self: self.status in {"active", "deactivated"})
    @rule()
    def reactivate(self) -> None:
        assert self.send(ReactivateUser()) == (self.status == "deactivated")
        self.status = "active"

    @precondition(lambda self: self.status == "deactivated")
    @rule()
    def a_deactivated_user_refuses(self) -> None:
        assert self.refused(ChangePassword(password="correct horse"))
        assert self.refused(ChangeUsername(username="carol"))

    @rule()
    def erase(self) -> None:
        assert self.send(EraseUser()) == (self.status != "erased")
        self.status = "erased"

    @precondition(lambda self: self.status == "erased")
    @rule()
    def an_erased_user_refuses(self) -> None:
        assert self.refused(ReactivateUser())
        assert self.refused(ChangeEmail(email="ann@example.com"))

    @invariant()
    def versions_have_no_gaps(self) -> None:
        versions = [event.version if isinstance(event, UserErased) else event.user.version for event in self.history]
        assert versions == list(range(1, len(versions) + 1))
        assert version_of(self.state) == len(versions)

    @invariant()
    def the_state_is_what_the_model_says(self) -> None:
        match self.state:
            case Registered(user=user):
                assert user.status == self.status
                assert user.is_active == (self.status == "active")
                shown = {name: getattr(user, name) for name in self.fields}
                assert _exact(shown) == _exact(self.fields)
            case ErasedUser():
                assert self.status == "erased"
            case Unregistered():
                assert self.status == "nobody"

    @invariant()
    def events_alone_lead_to_the_same_state(self) -> None:
        state: State = Unregistered(ID)
        for event in self.history:
            value = USER_EVENTS.encode(event)
            read = event if value is None else USER_EVENTS.decode(USER_EVENTS.event_type(event), value)
            assert not isinstance(read, UserSnapshot)
            state = evolve(state, read)
        assert state == self.state


def _exact(value: Any) -> str:
    """Types count: True is not 1."""
    if isinstance(value, dict):
        return repr({name: _exact(value[name]) for name in sorted(value)})
    return repr(value)


TestUserMachine = UserMachine.TestCase
TestUserMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
