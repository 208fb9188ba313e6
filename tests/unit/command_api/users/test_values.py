"""The limits of every value, and messages that name the limit and the way out."""

import json
from typing import Annotated, Any, Literal
from unicodedata import normalize

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, validate_email

from command_api.users.commands import ChangePassword, ChangeProfile, DeactivateUser, RegisterUser
from command_api.users.values import _BLANK, _INVISIBLE, ATTRIBUTES_BYTES, encoded

VALID = {"email": "ann@example.com", "username": "ann", "password": "correct horse"}


def refusal(model: type[BaseModel], **values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        model.model_validate(values)
    [only] = error.value.errors()
    return str(only["msg"])


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ann@EXAMPLE.com", "Ann@example.com"),
        ("ann+tag@example.com", "ann+tag@example.com"),
        ("ann@b\u00fccher.example.com", "ann@b\u00fccher.example.com"),
        ("jo\u0308rg@example.com", "j\u00f6rg@example.com"),
    ],
)
def test_an_address_is_stored_as_normalised(given: str, stored: str) -> None:
    assert RegisterUser.model_validate({**VALID, "email": given}).email == stored


@pytest.mark.parametrize(
    "email",
    [
        "Ann <ann@example.com>",
        " ann@example.com",
        "ann@example.com\n",
        "ann",
        "ann@",
        "ann@localhost",
        "ann@example.test",
        "a\x00nn@example.com",
        "ann@example.com\ud800",
        f"{'a' * 64}@{'b' * 63}.{'c' * 63}.{'d' * 60}.com",
        "",
        7,
        None,
    ],
)
def test_what_is_no_bare_address_is_refused(email: Any) -> None:
    assert refusal(RegisterUser, **{**VALID, "email": email})


@pytest.mark.parametrize("username", ["ann", "a.b", "\u00e9tienne", "\u674e\u5c0f\u9f99", "x" * 50, "\U0001f600" * 3])
def test_a_username_may_have_any_visible_characters(username: str) -> None:
    assert RegisterUser.model_validate({**VALID, "username": username}).username == username


def test_a_username_is_stored_as_nfc() -> None:
    assert RegisterUser.model_validate({**VALID, "username": "e\u0301tienne"}).username == "\u00e9tienne"


@pytest.mark.parametrize(
    ("username", "why"),
    [
        ("ab", "must have 3 to 50 characters; this has 2"),
        ("x" * 51, "this has 51"),
        ("e\u0301e\u0301", "this has 2"),
        # As it is sent, it is longer, or shorter, than the document says.
        ("e\u0301" * 26, "this has 52"),
        ("\u0958" * 2, "this has 2"),
        ("a b", "leave it out"),
        ("a\u00a0bc", "leave it out"),
        ("a\u200bbc", "leave it out"),
        ("a\u202ebc", "leave it out"),
        ("a\tbc", "leave it out"),
        ("a\ue000bc", "leave it out"),
        ("a\x00bc", "NUL"),
        ("a\udc00bc", "surrogate"),
    ],
)
def test_a_username_with_too_few_too_many_or_invisible_characters_is_refused(username: str, why: str) -> None:
    assert why in refusal(RegisterUser, **{**VALID, "username": username})


@pytest.mark.parametrize("password", ["8 chars!", "\u00fc" * 8, "x" * 1024, "u\u0308" * 1024, " " * 8])
def test_a_password_may_be_anything_from_8_to_1024(password: str) -> None:
    assert RegisterUser.model_validate({**VALID, "password": password}).password.get_secret_value() == password


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("7 chars", "must have 8 to 1024"),
        ("u\u0308" * 7, "this has 7"),
        ("\u0958" * 600, "this has 1200"),
        ("x" * 1025, "this has 1025"),
        ("\x00" * 8, "NUL"),
        ("\ud800" * 8, "surrogate"),
    ],
)
def test_a_password_out_of_bounds_is_refused(password: str, why: str) -> None:
    assert why in refusal(RegisterUser, **{**VALID, "password": password})


def test_a_password_is_in_no_representation() -> None:
    command = ChangePassword(password="correct horse", current_password="battery staple")

    for shown in (repr(command), str(command), command.model_dump_json(), repr(command.model_dump())):
        assert "horse" not in shown
        assert "staple" not in shown


def test_names_and_reasons_have_limits() -> None:
    assert "200 at most" in refusal(ChangeProfile, display_name="x" * 201)
    assert "500 at most" in refusal(DeactivateUser, reason="x" * 501)
    assert "NUL" in refusal(ChangeProfile, display_name="\x00")


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_attributes_may_be_5_levels_deep() -> None:
    assert RegisterUser.model_validate({**VALID, "attributes": nested(5)}).attributes == nested(5)
    assert "deeper than 5" in refusal(RegisterUser, **VALID, attributes=nested(6))
    assert "deeper than 5" in refusal(RegisterUser, **VALID, attributes={"a": [[[[[]]]]]})


def test_hostile_nesting_is_refused_before_it_is_walked() -> None:
    hostile: list[Any] = []
    for _ in range(30_000):
        hostile = [hostile]

    assert "deeper than 5" in refusal(RegisterUser, **VALID, attributes={"a": hostile})


def test_attributes_may_have_16_kib_as_json() -> None:
    room = ATTRIBUTES_BYTES - len(b'{"a":""}')

    assert RegisterUser.model_validate({**VALID, "attributes": {"a": "x" * room}}).attributes == {"a": "x" * room}
    assert "16384 at most" in refusal(RegisterUser, **VALID, attributes={"a": "x" * (room + 1)})
    assert "16384 at most" in refusal(RegisterUser, **VALID, attributes={"a": "\u00fc" * (room // 2 + 1)})


@pytest.mark.parametrize("body", ['{"a": NaN}', '{"a": [Infinity]}', '{"a": {"b": -Infinity}}', '{"a": 1e999}'])
def test_numbers_that_json_does_not_have_are_refused(body: str) -> None:
    assert "infinite" in refusal(RegisterUser, **VALID, attributes=json.loads(body))


@pytest.mark.parametrize("body", ['{"a": "\\u0000"}', '{"\\u0000": 1}', '{"a": [{"b": "\\ud800"}]}', '{"\\udc00": 1}'])
def test_characters_that_cannot_be_stored_are_refused_wherever_they_are(body: str) -> None:
    assert "leave such characters out" in refusal(RegisterUser, **VALID, attributes=json.loads(body))
    assert "leave such characters out" in refusal(ChangeProfile, attributes=json.loads(body))


def test_the_canonical_form_tells_types_apart_and_names_not() -> None:
    assert encoded({"a": 1, "b": 2}) == encoded({"b": 2, "a": 1})
    assert len({encoded({"a": value}) for value in (1, 1.0, True, "1")}) == 4


def test_unknown_fields_are_refused() -> None:
    assert "Extra inputs" in refusal(RegisterUser, **VALID, is_admin=True)


LOCALS = st.text("aZ09._+-'", min_size=1, max_size=70)
DOMAINS = st.sampled_from(
    ["example.com", "EXAMPLE.com", "b\u00fccher.example.com", "localhost", "example.test", "a..com", ""]
)


@given(local=LOCALS, domain=DOMAINS)
@example(local="x" * 64, domain="example.com")
@example(local="x" * 65, domain="example.com")
def test_the_short_way_for_plain_addresses_leads_where_the_library_does(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    try:
        expected: str | None = validate_email(address)[1]
    except ValueError:
        expected = None

    try:
        found: str | None = RegisterUser.model_validate({**VALID, "email": address}).email
    except ValidationError:
        found = None

    assert found == expected


#: What the JSON schema's engine (and pydantic's, which is asked here) takes for the property.
_IGNORABLE = r"\p{Default_Ignorable_Code_Point}"


def test_the_invisible_characters_are_those_that_unicode_calls_default_ignorable() -> None:
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    seen = "".join(character for character in every if _INVISIBLE.match(character) and character not in _BLANK)
    rest = "".join(character for character in every if not _INVISIBLE.match(character))

    assert TypeAdapter(Annotated[str, Field(pattern=f"^{_IGNORABLE}+$")]).validate_python(seen) == seen
    with pytest.raises(ValidationError):
        TypeAdapter(Annotated[str, Field(pattern=_IGNORABLE)]).validate_python(rest)


@pytest.mark.parametrize("username", ["admin\ufe0f", "ad\u034fmin", "\u3164" * 3, "\u2800" * 3, "ann\U0001d159"])
def test_a_username_has_no_character_that_nobody_sees(username: str) -> None:
    assert "invisible character" in refusal(RegisterUser, **{**VALID, "username": username})


def test_a_username_has_at_most_three_combining_marks_in_a_row() -> None:
    three, four = ("x" + "\u0332" * number + "yz" for number in (3, 4))

    assert RegisterUser.model_validate({**VALID, "username": three}).username == three
    assert "more than 3 combining marks in a row" in refusal(RegisterUser, **{**VALID, "username": four})


@pytest.mark.parametrize(
    "username", ["\u1ec7\u0301\u0302\u0303xy", "\u1ec7\u0301\u0302xy", "a\u0301\u0302\u0303\u0304xy"]
)
def test_marks_that_are_parts_of_a_letter_count(username: str) -> None:
    assert "more than 3 combining marks in a row" in refusal(RegisterUser, **{**VALID, "username": username})


#: Of each script what stacks most: Vietnamese, Greek, pointed Hebrew and Arabic, Thai, Devanagari, Kannada, Sinhala,
#: Tibetan.
WRITTEN = (
    *("Nguyễn", "Điệuuyển", "ᾧδε", "שָּׁלוֹם", "مُحَمَّدٌ", "เกี๊ยว", "क्षत्रिय", "ಕೋಂಗಳು"),
    *("කෝංගල", "བསྒྲུབས"),
)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("username", WRITTEN)
def test_names_of_every_script_are_taken_composed_and_decomposed(username: str, form: Literal["NFC", "NFD"]) -> None:
    user = RegisterUser.model_validate({**VALID, "username": normalize(form, username)})

    assert user.username == normalize("NFC", username)
