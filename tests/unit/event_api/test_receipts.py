"""Receipts: how they are signed and verified, when a subscriber is past an erasure, by when the log has forgotten."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import ValidationError

from chassis.settings import Topics
from event_api.receipts.erasures import Erasure, time_to_forget
from event_api.receipts.receipts import is_past
from event_api.receipts.signing import ReceiptKeys
from event_api.receipts.subscribers import Subscriber
from event_api.settings import EventApiSettings
from local_stack.secret_values import make_secret
from tests.unit.docs.pages import ROOT

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STATEMENT = {"user_id": "ann", "offset": 812, "erased_at": None, "subscribers": [{"past": True, "name": "mailer"}]}
OURS, ANOTHER = UUID(int=1), UUID(int=2)
ERASURE = Erasure(UUID(int=3), NOW, "users.events", OURS, 1, 812, NOW, NOW, None)
MAILER = Subscriber("mailer", None, None, NOW, None, None, None)


def public_half(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), password=None)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_an_auditor_verifies_a_receipt_as_the_how_to_says_and_finds_out_a_changed_one(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/show-that-a-person-is-forgotten.md").read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    keys = ReceiptKeys(make_secret("RECEIPTS_KEY") + public_half(make_secret("RECEIPTS_KEY")))
    receipt = keys.signed(STATEMENT, NOW)
    (tmp_path / "jwks.json").write_text(json.dumps(keys.key_set))

    said = []
    for shown in (receipt, {**receipt, "offset": 813}):
        (tmp_path / "receipt.json").write_text(json.dumps(shown))
        command = [sys.executable, "-I", "-c", program]
        said.append(subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False))

    assert (said[0].returncode, said[0].stdout) == (0, f"made at {int(NOW.timestamp())} and genuine\n"), said[0].stderr
    assert "the signature is of another receipt" in said[1].stderr


def test_older_keys_are_published_behind_the_one_that_signs_and_never_with_their_private_half() -> None:
    new, old = make_secret("RECEIPTS_KEY"), make_secret("RECEIPTS_KEY")
    one_line = " ".join(new.split("\n"))

    listed = [ReceiptKeys(text).key_set["keys"] for text in (new, old, one_line, new + public_half(old), new + old)]

    assert listed[2] == listed[0]
    assert listed[3] == listed[4] == [*listed[0], *listed[1]]
    assert {name for keys in listed for key in keys for name in key} == {"kty", "crv", "x", "kid", "use", "alg"}


def test_what_cannot_sign_is_refused_with_the_way_out() -> None:
    private = make_secret("RECEIPTS_KEY")
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    for text in ("", "secret", public_half(private)):
        with pytest.raises(ValueError, match="openssl genpkey -algorithm ed25519"):
            ReceiptKeys(text)
    for text in (other, private + other, private.replace("MC4C", "AAAA")):
        with pytest.raises(ValueError, match="private key that is no Ed25519 key"):
            ReceiptKeys(text)
    for more in ("-----BEGIN ED25519 PUBLIC KEY-----", "and a word"):
        with pytest.raises(ValueError, match="nothing but keys"):
            ReceiptKeys(private + more)
    with pytest.raises(ValidationError, match="openssl genpkey"):
        EventApiSettings(_env_file=None, RECEIPTS_KEY="no key")
    assert isinstance(load_pem_private_key(private.encode(), password=None), Ed25519PrivateKey)


@pytest.mark.parametrize(
    ("acknowledged", "committed", "expected"),
    [
        (None, None, False),
        ((900, 812), None, False),
        ((0, 813), None, True),
        (None, 812, False),
        (None, 813, True),
        ((0, 813), 0, False),
        ((0, 0), 813, True),
    ],
)
def test_a_subscriber_is_past_once_it_or_its_group_is_behind_the_tombstone(
    acknowledged: tuple[int, ...] | None, committed: int | None, expected: bool
) -> None:
    group = None if committed is None else "g"
    subscriber = replace(MAILER, group=group, topic_id=OURS if acknowledged else None, offsets=acknowledged)

    assert is_past(subscriber, ERASURE, {} if committed is None else {"g": committed}) is expected


def test_what_was_acknowledged_before_the_tombstone_was_there_does_not_count() -> None:
    """The brokers were set back meanwhile, so the tombstone is where another record was."""
    subscriber = replace(MAILER, topic_id=OURS, offsets=(0, 900))

    assert is_past(replace(subscriber, acknowledged_at=NOW - timedelta(minutes=2)), ERASURE, {}) is False
    # Clocks may differ.
    assert is_past(replace(subscriber, acknowledged_at=NOW - timedelta(seconds=50)), ERASURE, {}) is True
    assert is_past(replace(subscriber, acknowledged_at=NOW + timedelta(days=2)), ERASURE, {}) is True


def test_what_cannot_be_compared_is_not_told() -> None:
    elsewhere = replace(MAILER, topic_id=ANOTHER, offsets=(900, 900))
    nowhere = replace(ERASURE, topic=None, topic_id=None, partition=None, offset=None)

    assert is_past(elsewhere, ERASURE, {}) is None
    # Acknowledged before the topic had the partition that the tombstone is in.
    assert is_past(replace(MAILER, topic_id=OURS, offsets=(900,)), ERASURE, {}) is None
    assert is_past(replace(MAILER, group="g"), ERASURE, {}) is None
    assert is_past(replace(elsewhere, group="g"), ERASURE, {"g": 0}) is False
    assert is_past(replace(MAILER, topic_id=OURS, offsets=(900, 900)), nowhere, {}) is None


def test_the_log_has_forgotten_ten_days_later_and_a_topic_of_short_lags_within_a_minute_or_two() -> None:
    def wait(**changes: int) -> timedelta:
        return time_to_forget(Topics(_env_file=None).model_copy(update=changes))

    short = {"topic_min_compaction_lag_ms": 0, "topic_max_compaction_lag_ms": 4000, "topic_segment_ms": 1000}
    assert wait() == timedelta(days=10)
    assert wait(topic_segment_ms=86_400_000 * 3) == timedelta(days=12)
    assert wait(**short) == timedelta(seconds=64)
