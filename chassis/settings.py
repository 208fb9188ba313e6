"""Settings groups: typed environment variables that fail fast, one line per mistake.

A process composes its settings class from the groups it needs, so it is told its own secrets and no others. Values come
from the environment, then from a `.env` file in the working directory, each as NAME or from the file that NAME_FILE
names; empty values count as absent. Nothing is read at import time: `load` is called by the process's entry point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from chassis.postgres_address.hosts import Host, Hosts, SessionAttributes, read_hosts
from chassis.postgres_address.tls import SYSTEM, Authorities, Certificate, Key, Mode, Tls
from chassis.setting_files import read_files
from chassis.settings_error import SettingsError

S = TypeVar("S", bound="Settings")

#: Kafka allows this in a topic's name.
_TOPIC = r"^[A-Za-z0-9._-]{1,249}$"
_DAY_MS = 86_400_000
_ADDRESS_VARIABLES = ("user", "password", "server", "port", "pool_size", "max_overflow")
_TLS_VARIABLES = ("sslmode", "sslrootcert", "sslcert", "sslkey")
#: How the variables end that name files of certificates.
_CERTIFICATE_FILES = ("_sslrootcert", "_sslcert", "_ssl_cafile", "_ssl_certfile")


class Settings(BaseSettings):
    """The ground of every group: `.env` is read, empty means absent, values cannot be changed after loading."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        # One .env serves every process; each takes what it knows.
        extra="ignore",
        frozen=True,
        # A process has dozens of groups and fills in few: the others' validators would take 2 MB.
        defer_build=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the file that NAME_FILE names stand for NAME's value.

        Raises:
            SettingsError: such a file cannot be read, or the value is given as well.
        """
        del settings_cls, file_secret_settings
        assert isinstance(env_settings, EnvSettingsSource)
        assert isinstance(dotenv_settings, DotEnvSettingsSource)
        names = [alias for field in cls.model_fields.values() for alias in aliases_of(field)]
        read_files(names, env_settings, dotenv_settings)
        return init_settings, env_settings, dotenv_settings

    @property
    def certificate_files(self) -> dict[str, str]:
        """The files of certificates that it names, by variable."""
        named = [name for name in type(self).model_fields if name.endswith(_CERTIFICATE_FILES)]
        files = {name.upper(): getattr(self, name) for name in named}
        return {variable: file for variable, file in files.items() if file and file != SYSTEM}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresAddress:
    """The address of one database, and how many connections this process may hold to it."""

    server: str
    port: int
    user: str
    password: SecretStr
    database: str
    pool_size: int = 20
    max_overflow: int = 10
    tls: Tls = field(default_factory=Tls)
    #: The kind of server wanted, of several: who writes needs the primary.
    session_attributes: SessionAttributes = "read-write"

    @property
    def hosts(self) -> list[Host]:
        """Its servers, in the order in which they are tried."""
        return read_hosts(self.server, self.port)

    @property
    def connect_arguments(self) -> dict[str, Any]:
        """The keyword arguments asyncpg.connect takes for the first of its servers, whatever that is now."""
        [(name, port), *_] = self.hosts
        return {
            "host": name,
            "port": port,
            "user": self.user,
            "password": self.password.get_secret_value(),
            "database": self.database,
            **self.tls.connect_arguments,
        }

    def arguments_for(self, host: Host, attributes: str) -> dict[str, Any]:
        """Those for one of its servers, which must have these session attributes."""
        return self.connect_arguments | {
            "host": host.name,
            "port": host.port,
            "target_session_attrs": attributes,
        }

    def __str__(self) -> str:
        """`user@server:port/database`: fit for logs and messages."""
        servers = ",".join(f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name, port in self.hosts)
        return f"{self.user}@{servers}/{self.database}"


def _variables(prefix: str) -> Any:
    """A settings class of one database's variables, PREFIX_POSTGRES_USER and so on.

    What several databases may share can also be given without the prefix.
    """

    def shared(name: str, default: Any = ..., **constraints: Any) -> Any:
        return Field(default, validation_alias=AliasChoices(f"{prefix}_{name}", name), **constraints)

    database = Field(validation_alias=f"{prefix}_POSTGRES_DB", min_length=1, examples=[f"muster_{prefix.lower()}"])
    fields: dict[str, Any] = {
        **_login(prefix),
        "server": (Hosts, shared("POSTGRES_SERVER", min_length=1, examples=["127.0.0.1"])),
        "port": (int, shared("POSTGRES_PORT", 5432, ge=1, le=65535, examples=[5432])),
        "db": (str, database),
        "pool_size": (int, shared("POSTGRES_POOL_SIZE", 20, ge=1, le=1000, examples=[20])),
        "max_overflow": (int, shared("POSTGRES_MAX_OVERFLOW", 10, ge=0, le=1000, examples=[10])),
        # Each of these is checked against those before it.
        "sslmode": (Mode, shared("POSTGRES_SSLMODE", "prefer", examples=["verify-full"])),
        "sslrootcert": (
            Authorities,
            shared("POSTGRES_SSLROOTCERT", None, validate_default=True, examples=["/etc/muster/postgres-ca.pem"]),
        ),
        "sslcert": (Certificate, shared("POSTGRES_SSLCERT", None, examples=["/etc/muster/postgres.pem"])),
        "sslkey": (
            Key,
            shared("POSTGRES_SSLKEY", None, validate_default=True, examples=["/etc/muster/postgres.key"]),
        ),
    }
    named = {f"{prefix.lower()}_postgres_{name}": field for name, field in fields.items()}
    return create_model(f"{prefix.title()}Variables", __base__=Settings, __module__=__name__, **named)


def _login(*prefixes: str) -> dict[str, Any]:
    """The fields of who connects: by the first prefix that is given, else without one."""

    def first(name: str, **constraints: Any) -> Any:
        return Field(validation_alias=AliasChoices(*(f"{prefix}_{name}" for prefix in prefixes), name), **constraints)

    return {
        "user": (str, first("POSTGRES_USER", min_length=1, examples=["muster"])),
        "password": (SecretStr, first("POSTGRES_PASSWORD", examples=["a-long-secret"])),
    }


def _as_role(role: str, database: type[Settings]) -> Any:
    """The class of a database whose user is the role's: ROLE_POSTGRES_USER and _PASSWORD go before the database's."""
    prefix = "command" if issubclass(database, CommandPostgres) else "query"
    login = _login(role, prefix.upper())
    named: dict[str, Any] = {f"{prefix}_postgres_{name}": field for name, field in login.items()}
    return create_model(f"{role.title()}{prefix.title()}Login", __base__=database, __module__=__name__, **named)


def _address(settings: Settings, prefix: str) -> PostgresAddress:
    """The address that the variables of a prefix spell."""

    def values(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(settings, f"{prefix}_postgres_{name}") for name in names}

    database = getattr(settings, f"{prefix}_postgres_db")
    return PostgresAddress(database=database, tls=Tls(**values(_TLS_VARIABLES)), **values(_ADDRESS_VARIABLES))


class CommandPostgres(_variables("COMMAND"), Settings):  # type: ignore[misc] # made by a function, once for all prefixes
    """The command database: users, outbox, idempotency records."""

    @property
    def command_database(self) -> PostgresAddress:
        """The address of the command database."""
        return _address(self, "command")


class QueryPostgres(_variables("QUERY"), Settings):  # type: ignore[misc] # as above
    """The query database: read tables, generations, checkpoints, parked records."""

    @property
    def query_database(self) -> PostgresAddress:
        """The address of the query database."""
        return _address(self, "query")


class RelayPostgres(_as_role("RELAY", CommandPostgres), CommandPostgres):  # type: ignore[misc] # made by a function
    """The command database for the relay."""


class ProjectorsPostgres(_as_role("PROJECTORS", QueryPostgres), QueryPostgres):  # type: ignore[misc] # as above
    """The query database for the projectors."""


class EventsPostgres(_as_role("EVENTS", QueryPostgres), QueryPostgres):  # type: ignore[misc] # as above
    """The query database for the event API."""


class OperatorCommandPostgres(_as_role("OPERATOR", CommandPostgres), CommandPostgres):  # type: ignore[misc] # as above
    """The command database for an operator's commands."""


class OperatorQueryPostgres(_as_role("OPERATOR", QueryPostgres), QueryPostgres):  # type: ignore[misc] # as above
    """The query database for an operator's commands."""


class OwnerCommandPostgres(_as_role("OWNER", CommandPostgres), CommandPostgres):  # type: ignore[misc] # as above
    """The command database for migrations."""


class OwnerQueryPostgres(_as_role("OWNER", QueryPostgres), QueryPostgres):  # type: ignore[misc] # as above
    """The query database for migrations."""


class Kafka(Settings):
    """The way to the brokers."""

    kafka_bootstrap_servers: str = Field(
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        pattern=r"^[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*$",
        examples=["127.0.0.1:9092"],
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", validation_alias="KAFKA_SECURITY_PROTOCOL", examples=["SASL_SSL"]
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", validation_alias="KAFKA_SASL_MECHANISM", examples=["SCRAM-SHA-512"]
    )
    kafka_sasl_username: str | None = Field(
        None, validation_alias="KAFKA_SASL_USERNAME", validate_default=True, examples=["muster"]
    )
    kafka_sasl_password: SecretStr | None = Field(
        None, validation_alias="KAFKA_SASL_PASSWORD", validate_default=True, examples=["a-long-secret"]
    )
    kafka_ssl_cafile: str | None = Field(None, validation_alias="KAFKA_SSL_CAFILE", examples=["/etc/muster/ca.pem"])
    kafka_ssl_certfile: str | None = Field(
        None, validation_alias="KAFKA_SSL_CERTFILE", examples=["/etc/muster/client.pem"]
    )
    kafka_ssl_keyfile: str | None = Field(
        None, validation_alias="KAFKA_SSL_KEYFILE", examples=["/etc/muster/client.key"]
    )
    kafka_ssl_password: SecretStr | None = Field(
        None, validation_alias="KAFKA_SSL_PASSWORD", examples=["the-key's-passphrase"]
    )

    @field_validator("kafka_sasl_username", "kafka_sasl_password")
    @classmethod
    def _is_there_to_log_in(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and str(info.data.get("kafka_security_protocol")).startswith("SASL"):
            raise ValueError("must be set, since KAFKA_SECURITY_PROTOCOL asks for a login")
        return value


class Topics(Settings):
    """The topics' names and the policy that forgetting and order depend on; see outbox/topics.py for the reasons."""

    events_topic: str = Field(
        "users.events", validation_alias="EVENTS_TOPIC", pattern=_TOPIC, examples=["users.events"]
    )
    relay_topic: str = Field("outbox.relay", validation_alias="RELAY_TOPIC", pattern=_TOPIC, examples=["outbox.relay"])
    topic_partitions: int = Field(12, ge=1, le=1000, validation_alias="TOPIC_PARTITIONS", examples=[12])
    topic_replication_factor: int = Field(1, ge=1, le=7, validation_alias="TOPIC_REPLICATION_FACTOR", examples=[3])
    topic_min_insync_replicas: int = Field(1, ge=1, le=7, validation_alias="TOPIC_MIN_INSYNC_REPLICAS", examples=[2])
    topic_min_compaction_lag_ms: int = Field(
        7 * _DAY_MS, ge=0, validation_alias="TOPIC_MIN_COMPACTION_LAG_MS", examples=[7 * _DAY_MS]
    )
    topic_max_compaction_lag_ms: int = Field(
        8 * _DAY_MS, ge=1, validation_alias="TOPIC_MAX_COMPACTION_LAG_MS", examples=[8 * _DAY_MS]
    )
    topic_delete_retention_ms: int = Field(
        7 * _DAY_MS, ge=0, validation_alias="TOPIC_DELETE_RETENTION_MS", examples=[7 * _DAY_MS]
    )
    topic_segment_ms: int = Field(_DAY_MS, ge=100, validation_alias="TOPIC_SEGMENT_MS", examples=[_DAY_MS])
    topic_segment_bytes: int = Field(
        128 * 1024 * 1024, ge=1024 * 1024, validation_alias="TOPIC_SEGMENT_BYTES", examples=[128 * 1024 * 1024]
    )


class Logging(Settings):
    """The level of a process's log."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", validation_alias="LOG_LEVEL", examples=["INFO"]
    )


class Transport(Settings):
    """The limits of what one client may take of a process, on every port that it listens on."""

    #: Seconds for a head, from its first byte, and for that byte.
    http_head_seconds: int = Field(10, ge=1, le=3600, validation_alias="HTTP_HEAD_SECONDS", examples=[10])
    #: The least rate, over any 20 s, of bodies and of readers of answers.
    http_body_bytes_per_second: int = Field(
        100, ge=1, le=1024 * 1024, validation_alias="HTTP_BODY_BYTES_PER_SECOND", examples=[100]
    )
    #: Proxies keep theirs for 60 s by default; who closes first must be they, or a request meets a closed connection.
    http_keep_alive_seconds: int = Field(75, ge=1, le=3600, validation_alias="HTTP_KEEP_ALIVE_SECONDS", examples=[75])
    #: The connections of one listener; fewer where the file limit leaves fewer. An idle one takes some 10 KiB.
    http_connections: int = Field(4096, ge=1, le=1_000_000, validation_alias="HTTP_CONNECTIONS", examples=[4096])


class HostNames(Settings):
    """The names that a listener answers to."""

    allowed_hosts: str = Field(
        "", validation_alias="ALLOWED_HOSTS", examples=["users.example.com,*.internal.example.com"]
    )

    @field_validator("allowed_hosts")
    @classmethod
    def _names_hosts(cls, value: str) -> str:
        if "*" in split_list(value):
            raise ValueError("must name each host, or all below one as *.example.com; leave it out to answer to any")
        return value

    @property
    def host_names(self) -> list[str]:
        """The names that are answered; none means every one."""
        return split_list(self.allowed_hosts)


class Http(Logging, Transport, HostNames):
    """The settings that both APIs share."""

    cors_allow_origins: str = Field(
        "",
        validation_alias="CORS_ALLOW_ORIGINS",
        examples=["https://app.example.com,https://admin.example.com"],
    )
    workers: int = Field(1, ge=1, le=256, validation_alias="WORKERS", examples=[4])
    #: uvloop's, where it is installed.
    event_loop: ClassVar[Literal["auto"]] = "auto"

    @field_validator("cors_allow_origins")
    @classmethod
    def _names_origins(cls, value: str) -> str:
        if "*" in split_list(value):
            raise ValueError("must name each origin: with * every page in the world could call")
        return value

    @property
    def cors_origins(self) -> list[str]:
        """The origins; none means CORS is closed."""
        return split_list(self.cors_allow_origins)


def split_list(text: str) -> list[str]:
    """The parts between commas, without spaces around them; empty ones are none."""
    return [part.strip() for part in text.split(",") if part.strip()]


def http_url(text: str) -> str:
    """An HTTP address, without a slash at its end; another text would be tried for a minute otherwise.

    Raises:
        ValueError: it is none.
    """
    import httpx  # noqa: PLC0415 - few processes are told an address

    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(f"is no URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("is no http or https URL, such as http://127.0.0.1:8000")
    return text.rstrip("/")


#: An HTTP address among settings.
HttpUrl = Annotated[str, AfterValidator(http_url)]

#: The least length of each secret that keys something: 192 bits in base64url.
SECRET_CHARACTERS: Final = 32


def secrets_of(value: SecretStr) -> list[str]:
    """The secrets of a list, in its order."""
    return split_list(value.get_secret_value())


def _long_enough(value: SecretStr) -> SecretStr:
    given = secrets_of(value)
    short = [str(number) for number, secret in enumerate(given, start=1) if len(secret) < SECRET_CHARACTERS]
    if short or not given:
        named = f"; too short: {', '.join(short)}" if short else ""
        raise ValueError(f"must be secrets of at least {SECRET_CHARACTERS} characters, separated by commas{named}")
    return value


#: One or more secrets, separated by commas, so that one can be replaced: the first signs, all verify.
SecretList = Annotated[SecretStr, AfterValidator(_long_enough)]


def load(settings: type[S]) -> S:
    """Read and validate one process's settings.

    Raises:
        SettingsError: with one line per variable: its name, what is wrong, and an example.
    """
    try:
        return settings()
    except ValidationError as error:
        raise SettingsError(explain(settings, error)) from None


def variable(name: str, *, dotenv: bool = True) -> str | None:
    """One variable as settings classes read it: from the environment or `.env`, itself or by NAME_FILE.

    Without `dotenv`, from the environment alone.

    Raises:
        SettingsError: the file cannot be read, or the value is given as well.
    """
    sources = [EnvSettingsSource(Settings), *([DotEnvSettingsSource(Settings)] if dotenv else [])]
    read_files([name], *sources)
    return next((found for source in sources if (found := source.env_vars.get(name.lower()))), None)


def explain(settings: type[Settings], error: ValidationError) -> list[str]:
    """One line per variable that failed; values are not repeated, because some of them are secrets."""
    by_alias = {alias: field for field in settings.model_fields.values() for alias in aliases_of(field)}
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        field = by_alias.get(name) or settings.model_fields.get(name)
        # A secret has characters; pydantic counts them as items.
        message = (
            problem["msg"].replace(" items", " characters")
            if field and field.annotation is SecretStr
            else problem["msg"]
        )
        what = "is missing" if problem["type"] == "missing" else f"is wrong: {_sentence(message)}"
        lines.append(_line(name, field, what))
    return lines


def _line(name: str, field: FieldInfo | None, what: str) -> str:
    if field is None:
        return f"{name}: {what}" if name else what
    aliases = aliases_of(field)
    label = aliases[0] if len(aliases) == 1 else f"{aliases[0]} (or {', '.join(aliases[1:])})"
    example = field.examples[0] if field.examples else ""
    return f"{label} {what}; for example {aliases[0]}={example}"


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def aliases_of(field: FieldInfo) -> list[str]:
    """Return the variables of a setting, the preferred one first."""
    match field.validation_alias:
        case AliasChoices(choices=choices):
            return [str(choice) for choice in choices]
        case str() as alias:
            return [alias]
        case _:
            return []
