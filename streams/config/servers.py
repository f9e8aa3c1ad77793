"""The settings of Kafka and Redis: addresses, topics, logins.

Pure, except that passwords are read from files.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_serializer, model_validator

from streams.config.base import Section, check_one_password, read_password, split_address
from streams.config.redis_address import RedisAddress, parse_redis_address


def _brokers(bootstrap: str) -> str:
    """Return the addresses. Raises ValueError if one of them has no host or no port."""
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            # IPv6 addresses stand in brackets; idna rejects labels that are empty or too long.
            is_host = bool(host.strip("[]").encode("idna"))
        except UnicodeError:
            is_host = False
        if not (is_host and re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536):
            raise ValueError("write host:port, several separated by commas")
    return bootstrap


def _group_name(name: str) -> str:
    """Return the name. Raises ValueError if it is empty, or cannot be shown or sent."""
    if not name.strip() or not name.isprintable():
        raise ValueError("write a name of letters, digits and signs")
    return name


def _topic_name(name: str) -> str:
    """Return the name. Raises ValueError if Kafka has no topic of such a name."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name) or name in (".", ".."):
        raise ValueError("write 1 to 249 letters, digits, `.`, `_` and `-`")
    return name


def _token_endpoint(url: str) -> str:
    """Return the URL. Raises ValueError if a client could not send a login to it."""
    parts = split_address(url, "write https://host/path")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(
            "not the address of a token endpoint; write https://host/path, and the login into "
            "username and password"
        )
    return url


_Topic = Annotated[str, AfterValidator(_topic_name)]


# As they read after "needs".
_WITH_ARTICLE = {
    "username": "a username",
    "password": "a password",
    "oauth_token_url": "an oauth_token_url",
    "aws_region": "an aws_region",
}
# Settings of one mechanism.
_ONLY_FOR = {"oauth_token_url": "OAUTHBEARER", "aws_region": "AWS_MSK_IAM"}


class Kafka(Section):
    """The Kafka cluster, its topics and the login."""

    bootstrap: Annotated[str, AfterValidator(_brokers)] = Field(
        "127.0.0.1:9092", description="Brokers as `host:port`, separated by commas."
    )
    topic: _Topic = Field(
        "inference.requests",
        description="Topic that the events are read from, one event per record.",
    )
    dlq_topic: _Topic = Field(
        "inference.requests.dlq",
        description="Dead-letter topic. It receives the rejected records, byte for byte.",
    )
    group: Annotated[str, AfterValidator(_group_name)] = Field(
        "tokenpulse",
        description="Consumer group of the workers. The name is also part of the keys in Redis.",
    )
    partitions: int = Field(
        8, ge=1, description="Number of partitions that `topics create` creates."
    )
    replication: int = Field(
        1, ge=1, description="Number of replicas that `topics create` requests."
    )
    retention_h: float = Field(
        24 * 40,
        gt=0,
        description="How long Kafka keeps events, in hours, for `topics create`. Set it to "
        "the longest window plus the longest outage that you want to recover "
        "from.",
    )
    max_message_bytes: int = Field(
        1_048_576, ge=1024, description="Size of the largest record batch, for `topics create`."
    )
    isolation_level: Literal["read_committed", "read_uncommitted"] = Field(
        "read_committed",
        description="`read_committed` skips the records of aborted transactions; "
        "`read_uncommitted` counts them.",
    )
    fetch_max_partition_bytes: int = Field(
        1_048_576,
        ge=65_536,
        description="Largest number of bytes that one fetch reads from one partition.",
    )
    session_timeout_s: float = Field(
        30,
        ge=1,
        description="If a worker sends the consumer group no heartbeat for this time, the "
        "broker assigns its partitions to other workers.",
    )
    heartbeat_interval_s: float = Field(
        3, gt=0, description="Time between two heartbeats of the consumer group."
    )
    metadata_max_age_s: float = Field(
        60,
        ge=1,
        le=3_600,
        description="How often topics and partition leaders are looked up. A worker finds "
        "new partitions after this time at the latest.",
    )
    archive_topic: _Topic = Field(
        "tokenpulse.state",
        description="Compacted topic to which the state is archived every "
        "`worker.archive_interval_s`.",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="Protocol to the brokers: `SASL_...` uses a login, `...SSL` uses TLS.",
    )
    sasl_mechanism: Literal[
        "SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER", "AWS_MSK_IAM"
    ] = Field(
        "SCRAM-SHA-512",
        description="Authentication mechanism of the login. `OAUTHBEARER` fetches tokens from "
        "`oauth_token_url`; `AWS_MSK_IAM` signs them with the AWS credentials of the process.",
    )
    username: str | None = Field(
        None, description="User name of the login; the client id for `OAUTHBEARER`."
    )
    password: SecretStr | None = Field(
        None, description="Password of the login; the client secret for `OAUTHBEARER`."
    )
    password_file: Path | None = Field(None, description="File that contains the password.")
    oauth_token_url: Annotated[str, AfterValidator(_token_endpoint)] | None = Field(
        None,
        description="Token endpoint of the identity provider, for `OAUTHBEARER`.",
        # A refused address may contain a login, so it is in no message.
        repr=False,
    )
    oauth_scope: str | None = Field(
        None, description="Scope of the tokens, if the token endpoint requires one."
    )
    oauth_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the token endpoint's certificate; default: those "
        "of the system.",
    )
    aws_region: str | None = Field(
        None, description="AWS region of the MSK cluster, for `AWS_MSK_IAM`."
    )
    allow_sasl_without_tls: bool = Field(
        False,
        description="Allow `SASL_PLAINTEXT`, which sends the login and all events unencrypted.",
    )
    ssl_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the brokers' certificates; default: those of "
        "the system.",
    )
    ssl_cert_file: Path | None = Field(
        None, description="Client certificate, if the brokers require one."
    )
    ssl_key_file: Path | None = Field(
        None, description="Key of the client certificate, without a passphrase."
    )

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        check_one_password(self.password, self.password_file)
        required = self._login_fields()
        given = {
            "username": self.username,
            "password": self.password or self.password_file,
            "oauth_token_url": self.oauth_token_url,
            "aws_region": self.aws_region,
        }
        for name, mechanism in _ONLY_FOR.items():
            if given[name] and self.sasl_mechanism != mechanism:
                raise ValueError(
                    f"{name} is for sasl_mechanism {mechanism}; set that, or leave it out"
                )
        for name in required:
            if not given[name]:
                raise ValueError(f"{self._login_name()} needs {_WITH_ARTICLE[name]}; set it")
        unused = [name for name, value in given.items() if value and name not in required]
        if unused and not required:
            raise ValueError(
                f"a login is given, but security_protocol is {self.security_protocol}, which sends "
                f"none; set SASL_SSL, or leave {' and '.join(unused)} out"
            )
        if unused:
            raise ValueError(f"{self._login_name()} uses no {unused[0]}; leave it out")
        self._check_oauth()
        if self.security_protocol == "SASL_PLAINTEXT" and not self.allow_sasl_without_tls:
            raise ValueError(
                "security_protocol SASL_PLAINTEXT sends the login unencrypted; set "
                "SASL_SSL, or allow_sasl_without_tls: true"
            )
        _check_certificate(self, "SSL" in self.security_protocol, "security_protocol SSL, SASL_SSL")
        return self

    def _login_fields(self) -> tuple[str, ...]:
        """Return the settings that the login needs."""
        if not self.security_protocol.startswith("SASL_"):
            return ()
        if self.sasl_mechanism == "AWS_MSK_IAM":
            return ("aws_region",)
        if self.sasl_mechanism == "OAUTHBEARER":
            return ("username", "password", "oauth_token_url")
        return ("username", "password")

    def _login_name(self) -> str:
        of_token = self.sasl_mechanism in ("OAUTHBEARER", "AWS_MSK_IAM")
        return self.sasl_mechanism if of_token else self.security_protocol

    def _check_oauth(self) -> None:
        if self.oauth_token_url is None:
            if self.oauth_scope or self.oauth_ca_file:
                raise ValueError(
                    "oauth_scope and oauth_ca_file are for a token endpoint; set oauth_token_url, "
                    "or leave them out"
                )
        elif urlsplit(self.oauth_token_url).scheme == "http":
            if not self.allow_sasl_without_tls:
                raise ValueError(
                    "oauth_token_url sends the client's secret unencrypted; write https://, or set "
                    "allow_sasl_without_tls: true"
                )
            if self.oauth_ca_file is not None:
                raise ValueError(
                    "oauth_ca_file is given, but oauth_token_url is not encrypted; write https://"
                )

    def login_password(self) -> str | None:
        """Return the password. Raises ConfigError if its file cannot be read."""
        return read_password(self.password, self.password_file, "kafka")


def _redis_address(url: str) -> str:
    """Return the URL. Raises ValueError, without the URL, if no client could use it."""
    parse_redis_address(url)
    return url


LARGEST_CLOCK_OFFSET_S = 60  # that may be set as `max_clock_offset_s`


class Redis(Section):
    """The Redis that stores the state: a server, one behind sentinels, or a cluster (redis.md)."""

    url: Annotated[str, AfterValidator(_redis_address)] = Field(
        "redis://127.0.0.1:6379/0",
        description="Address: `redis://host:6379/0` or `unix://` of one server, "
        "`redis+sentinel://host:26379,host:26379/mymaster/0` or `redis+cluster://host:6379,"
        "host:6379`; `rediss...` for TLS. It may contain user and password.",
        # The address may contain a password, so it is in no representation.
        repr=False,
    )
    timeout_s: float = Field(
        2, gt=0, le=30, description="Time limit for one answer, and for a connection attempt."
    )
    max_clock_offset_s: float = Field(
        5,
        gt=0,
        le=LARGEST_CLOCK_OFFSET_S,
        description="A process whose clock differs by more from that of Redis finalises nothing.",
    )
    username: str | None = Field(None, description="User name, if the URL contains none.")
    password: SecretStr | None = Field(None, description="Password, if the URL contains none.")
    password_file: Path | None = Field(None, description="File that contains the password.")
    sentinel_username: str | None = Field(
        None, description="User name at the sentinels, if they require one."
    )
    sentinel_password: SecretStr | None = Field(
        None,
        description="Password at the sentinels. That of Redis is not sent to them.",
    )
    sentinel_password_file: Path | None = Field(
        None, description="File that contains the password at the sentinels."
    )
    ssl_ca_file: Path | None = Field(
        None,
        description="CA certificates that sign the server's certificate; default: those of "
        "the system.",
    )
    ssl_cert_file: Path | None = Field(
        None, description="Client certificate, if Redis requires one."
    )
    ssl_key_file: Path | None = Field(
        None, description="Key of the client certificate, without a passphrase."
    )

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        check_one_password(self.password, self.password_file)
        own = self.username or self.password or self.password_file
        if own and "@" in urlsplit(self.url).netloc:
            raise ValueError("the url has a login and so have username or password; keep one")
        if self.username and not (self.password or self.password_file):
            raise ValueError("a username needs a password or password_file; set it")
        self._check_sentinel_login()
        _check_certificate(self, self.address.encrypted, "a rediss:// url")
        return self

    def _check_sentinel_login(self) -> None:
        check_one_password(self.sentinel_password, self.sentinel_password_file, prefix="sentinel_")
        password = self.sentinel_password or self.sentinel_password_file
        if self.sentinel_username and not password:
            raise ValueError(
                "sentinel_username needs sentinel_password or sentinel_password_file; set it"
            )
        if password and self.address.kind != "sentinel":
            raise ValueError(
                "a login at sentinels is given, but the url is not redis+sentinel://; write that, "
                "or leave the login out"
            )

    @property
    def address(self) -> RedisAddress:
        """The parts of the URL."""
        return parse_redis_address(self.url)

    def login_password(self) -> str | None:
        """Return the password. Raises ConfigError if its file cannot be read."""
        return read_password(self.password, self.password_file, "redis")

    def login_sentinel_password(self) -> str | None:
        """Return the password at the sentinels. Raises ConfigError if its file cannot be read."""
        return read_password(
            self.sentinel_password, self.sentinel_password_file, "redis", prefix="sentinel_"
        )

    @field_serializer("url", when_used="json")
    def _mask_login(self, url: str) -> str:
        """Return the URL without its login and options, which may contain a password."""
        scheme, _, rest = url.partition("://")
        # At the last @, as a password may contain one.
        address, options, _ = rest.rpartition("@")[2].partition("?")
        login = "(credentials)@" if "@" in rest else ""
        return f"{scheme}://{login}{address}{'?(options)' if options else ''}"


def _check_certificate(section: Kafka | Redis, encrypted: bool, fix: str) -> None:
    if (section.ssl_cert_file is None) != (section.ssl_key_file is None):
        raise ValueError("ssl_cert_file and ssl_key_file go together; set both or neither")
    if not encrypted and (section.ssl_ca_file or section.ssl_cert_file):
        raise ValueError(f"ssl files are given, but the connection is not encrypted; set {fix}")
