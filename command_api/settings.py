"""The command API's settings: its database, its secrets, and the cost of hashing passwords."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from chassis.access.rates import rate_text
from chassis.access.settings import GuardedHttp
from chassis.lifecycle import usable_cores
from chassis.settings import SECRET_CHARACTERS, CommandPostgres, HttpUrl, SecretList, secrets_of, split_list
from command_api.credentials.attempts.rule import AttemptLimits
from command_api.credentials.keys import CredentialKeys
from command_api.passwords.blocklist_file import BlocklistFile
from command_api.passwords.rules import LEAST_CHARACTERS


def _block_list(path: Path) -> Path:
    with BlocklistFile.open(path):
        return path


_Rate = Annotated[str, AfterValidator(rate_text)]


class CommandApiSettings(CommandPostgres, GuardedHttp):
    """The settings of a command API process."""

    #: Keys the HMACs of requests: with a plain hash, passwords could be guessed from the table of stored answers.
    idempotency_secret: SecretStr = Field(
        validation_alias="IDEMPOTENCY_SECRET",
        min_length=SECRET_CHARACTERS,
        examples=["32-random-characters-or-many-more"],
    )
    #: Keys of one caller for commands that changed nothing, in one process: so many at once, and as many more in a day.
    #: Each takes half a kilobyte for a day, so one caller takes 10 MB at most. The user's JSON is kept beside them,
    #: once for each version that was answered; each version is an event as well, which is kept for longer. All keys of
    #: a user's own token count here.
    idempotency_unchanged_per_day: int = Field(
        10_000, ge=1, le=10_000_000, validation_alias="IDEMPOTENCY_UNCHANGED_PER_DAY", examples=[10_000]
    )
    #: The same for commands that changed something, whose answers take a kilobyte, 17 at most. A service that sends a
    #: key with each of a hundred commands a second, day and night, stays below; one that has gone wild ends at 20 GB.
    idempotency_changed_per_day: int = Field(
        10_000_000, ge=1, le=1_000_000_000, validation_alias="IDEMPOTENCY_CHANGED_PER_DAY", examples=[10_000_000]
    )
    #: Key device tokens, counters of failed attempts and log lines, each by a key derived from them.
    credentials_secrets: SecretList = Field(
        validation_alias="CREDENTIALS_SECRETS", examples=["32-random-characters-or-many-more"]
    )
    #: Failures within the window, after which a counter of attempts refuses. NIST SP 800-63B-4 allows 100 in a row.
    credentials_failures: int = Field(10, ge=1, le=100, validation_alias="CREDENTIALS_FAILURES", examples=[10])
    credentials_window_seconds: int = Field(
        3600, ge=1, le=86_400, validation_alias="CREDENTIALS_WINDOW_SECONDS", examples=[3600]
    )
    #: Doubled with each failure more, to the longest.
    credentials_first_refusal_seconds: int = Field(
        60, ge=1, le=3600, validation_alias="CREDENTIALS_FIRST_REFUSAL_SECONDS", examples=[60]
    )
    credentials_longest_refusal_seconds: int = Field(
        900, ge=1, le=3600, validation_alias="CREDENTIALS_LONGEST_REFUSAL_SECONDS", examples=[900]
    )
    #: All failures within the window, those before a success as well: then each is followed by the longest refusal.
    credentials_most_failures: int = Field(
        35, ge=2, le=1000, validation_alias="CREDENTIALS_MOST_FAILURES", examples=[35]
    )
    #: A device that logs in more rarely shares the counter of those that never did.
    credentials_device_days: int = Field(180, ge=1, le=3650, validation_alias="CREDENTIALS_DEVICE_DAYS", examples=[180])
    #: Clients reach the query API here: `Location` points there.
    public_query_url: HttpUrl = Field(
        "http://127.0.0.1:8001", validation_alias="PUBLIC_QUERY_URL", examples=["https://users.example.com"]
    )
    command_api_host: str = Field("127.0.0.1", validation_alias="COMMAND_API_HOST", examples=["127.0.0.1"])
    command_api_port: int = Field(8000, ge=1, le=65535, validation_alias="COMMAND_API_PORT", examples=[8000])
    #: Health with its reasons, and metrics, without a token: for the inside alone.
    command_api_ops_host: str = Field("127.0.0.1", validation_alias="COMMAND_API_OPS_HOST", examples=["127.0.0.1"])
    command_api_ops_port: int = Field(8010, ge=1, le=65535, validation_alias="COMMAND_API_OPS_PORT", examples=[8010])
    #: The relay finds events by its poll alone where it is off.
    outbox_notify: bool = Field(True, validation_alias="OUTBOX_NOTIFY", examples=["true"])

    #: A user may write these of its own attributes; others may rely on the rest.
    auth_self_attributes: str = Field("", validation_alias="AUTH_SELF_ATTRIBUTES", examples=["locale,theme"])

    #: The least that OWASP's Password Storage Cheat Sheet has for Argon2id: 17 ms on one core here.
    argon2_memory_kib: int = Field(
        19 * 1024, ge=8, le=256 * 1024, validation_alias="ARGON2_MEMORY_KIB", examples=[19 * 1024]
    )
    argon2_time_cost: int = Field(2, ge=1, le=10, validation_alias="ARGON2_TIME_COST", examples=[2])
    argon2_parallelism: int = Field(1, ge=1, le=8, validation_alias="ARGON2_PARALLELISM", examples=[1])
    #: Hashes at once in one worker; absent: the machine's cores, shared among the workers.
    hashing_threads: int | None = Field(None, ge=1, le=256, validation_alias="HASHING_THREADS", examples=[4])
    #: Hashes that may wait in one worker before it answers `busy`: at 17 ms each, half a second on two cores.
    hashing_queue: int = Field(64, ge=0, le=10_000, validation_alias="HASHING_QUEUE", examples=[64])

    #: The least that NIST SP 800-63B-4 allows, and only beside another factor; without one it wants 15. It wants 64 to
    #: be long enough everywhere.
    password_min_length: int = Field(
        LEAST_CHARACTERS, ge=LEAST_CHARACTERS, le=64, validation_alias="PASSWORD_MIN_LENGTH", examples=[15]
    )
    #: It is used beside the built-in list; `muster passwords build` makes it.
    password_blocklist_file: Annotated[Path, AfterValidator(_block_list)] | None = Field(
        None, validation_alias="PASSWORD_BLOCKLIST_FILE", examples=["/etc/muster/passwords.blocklist"]
    )

    rate_limit_commands: _Rate = Field("off", validation_alias="RATE_LIMIT_COMMANDS", examples=["50/s"])
    rate_limit_imports: _Rate = Field("off", validation_alias="RATE_LIMIT_IMPORTS", examples=["10/min"])
    #: A user's own changes of address, name and password: a taken one is told, so nobody may try many.
    rate_limit_self: _Rate = Field("10/min", validation_alias="RATE_LIMIT_SELF", examples=["10/min"])

    @field_validator("credentials_most_failures")
    @classmethod
    def _more_than_failures(cls, most: int, info: ValidationInfo) -> int:
        failures: int = info.data.get("credentials_failures", 0)
        if most <= failures:
            raise ValueError(f"must be more than CREDENTIALS_FAILURES, which is {failures}; raise this or lower that")
        return most

    @property
    def credential_keys(self) -> CredentialKeys:
        """The keys of credentials."""
        return CredentialKeys.derive(secrets_of(self.credentials_secrets))

    @property
    def attempt_limits(self) -> AttemptLimits:
        """The limits of guesses of passwords."""
        return AttemptLimits(
            failures=self.credentials_failures,
            window=timedelta(seconds=self.credentials_window_seconds),
            first_refusal=timedelta(seconds=self.credentials_first_refusal_seconds),
            longest_refusal=timedelta(seconds=self.credentials_longest_refusal_seconds),
            most=self.credentials_most_failures,
        )

    @property
    def rates(self) -> Mapping[str, str]:
        """The limits of commands, imports and changes of its own that a caller may send."""
        return {
            "commands": self.rate_limit_commands,
            "imports": self.rate_limit_imports,
            "self": self.rate_limit_self,
        }

    @property
    def own_attributes(self) -> frozenset[str]:
        """The top-level attributes that a token with `self` may write."""
        return frozenset(split_list(self.auth_self_attributes))

    @property
    def hashing_concurrency(self) -> int:
        """Threads that hash in this worker."""
        return self.hashing_threads or max(1, usable_cores() // self.workers)
