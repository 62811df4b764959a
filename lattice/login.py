"""Where a NATS server is and who we are to it: what was said nearest (an option, the environment, a file) counts.

The option `--nats-user` is the variable `TRELLIS_NATS_USER`, and so on. The file
is TOML; its folder is where relative paths begin:

    lattice = "prod"

    [nats]                        the control connection
    url = "tls://nats.example.com"
    creds = "prod.creds"
    ca = "ca.pem"

    [data]                        the connection for calls, where it is another one; all of it may be left out
    user = "calls"
    password = "..."

| key            | means                                                                       |
|----------------|-----------------------------------------------------------------------------|
| url            | the server, or several with commas between                                  |
| user, password | a user and a password                                                       |
| token          | a token                                                                     |
| creds          | a file with a JWT and the seed of its nkey                                  |
| jwt, nkey      | a file with a JWT, and one with the seed of its nkey; or `nkey` alone       |
| ca             | a file with the certificates of the CAs to trust                            |
| cert, key      | files with a certificate of our own and its key                             |
| inbox          | how reply subjects begin, for a login that may not listen to `_INBOX.>`     |
| domain         | the JetStream domain, for a server behind a leaf node                       |
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lattice.errors import BadInput, Finding
from lattice.nats_transport import DEFAULT_URL, NatsOptions

WAYS = (("user", "password"), ("token",), ("creds",), ("nkey", "jwt"))
"""The ways to log in. Of several, the one that was said nearest counts, and nothing of the others is sent along."""

PATHS = ("creds", "jwt", "nkey", "ca", "cert", "key")

SCHEMES = ("nats", "tls", "ws", "wss")

_LATTICE = re.compile(r"[A-Za-z0-9_-]+")
"""It is a part of subjects and of the names of buckets."""


@dataclass(frozen=True, slots=True, repr=False)
class Login:
    """How to log in to a NATS server. It has no readable form, so that no log gets one."""

    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    jwt: str | None = None
    nkey: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    inbox: str | None = None
    domain: str | None = None

    def over(self, farther: Login) -> Login:
        """This one, completed by what was said farther away."""
        ours = [way for way in WAYS if any(getattr(self, name) for name in way)]
        theirs = [name for way in WAYS if ours and way not in ours for name in way]
        farther = replace(farther, **dict.fromkeys(theirs))
        return Login(*(getattr(self, one.name) or getattr(farther, one.name) for one in fields(Login)))


@dataclass(frozen=True, slots=True)
class Server:
    """One connection: `url` is None where nobody has named a server."""

    url: str | None = field(default=None, repr=False)  # it may hold a password
    login: Login = field(default=Login(), repr=False)

    def __post_init__(self) -> None:
        if self.url and not all(map(_is_url, self.url.split(","))):
            shown = self.url.rpartition("@")[2]  # without the password
            fix = "write nats://HOST:PORT, or tls://HOST:PORT"
            raise BadInput(Finding("TRL-CLI-001", f"`{shown}` is not the URL of a NATS server", fix=fix))

    def over(self, farther: Server) -> Server:
        return Server(self.url or farther.url, self.login.over(farther.login))

    def __bool__(self) -> bool:
        """Whether anything is said at all."""
        return self != Server()


@dataclass(frozen=True, slots=True)
class Settings:
    """What one source says. `data` is empty where calls go over the control connection."""

    lattice: str | None = None
    nats: Server = Server()
    data: Server = Server()

    def __post_init__(self) -> None:
        if self.lattice and not _LATTICE.fullmatch(self.lattice):
            finding = Finding(
                "TRL-CLI-001", f"`{self.lattice}` cannot name a lattice", fix="use letters, digits, `-` and `_`"
            )
            raise BadInput(finding)

    def over(self, farther: Settings) -> Settings:
        return Settings(self.lattice or farther.lattice, self.nats.over(farther.nats), self.data.over(farther.data))

    def environment(self) -> dict[str, str]:
        """The variables that say this to a child process, and nothing else."""
        said = {"lattice": self.lattice, "nats": self.nats.url, "data_nats": self.data.url}
        said |= {"nats_config": None, "context": None}  # what the files say is in the other variables
        for prefix, server in (("nats", self.nats), ("data_nats", self.data)):
            said |= {f"{prefix}_{one.name}": getattr(server.login, one.name) for one in fields(Login)}
        return {f"TRELLIS_{name.upper()}": value or "" for name, value in said.items()}


def _is_url(text: str) -> bool:
    """Of a NATS server, as far as can be told by looking at it; without a scheme it is `nats`."""
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of the port
        return False


def settings(options: Mapping[str, str | None], environment: Mapping[str, str] = os.environ) -> Settings:
    """What options say (`nats`, `nats_user`, `data_nats`, `data_nats_user`..., `lattice`, `nats_config`), completed by
    the environment, completed by the file of `nats_config`.

    Raises BadInput for a file, a URL or a name that cannot be used.
    """
    ours = {name.removeprefix("TRELLIS_"): value for name, value in environment.items() if name.startswith("TRELLIS_")}
    variables = {name.lower(): value for name, value in ours.items() if value}
    file = options.get("nats_config") or variables.get("nats_config")
    said = _said(options).over(_said(variables))
    return said.over(from_file(Path(file))) if file else said


def _said(by: Mapping[str, str | None]) -> Settings:
    def server(prefix: str) -> Server:
        return Server(by.get(prefix), Login(*(by.get(f"{prefix}_{one.name}") for one in fields(Login))))

    return Settings(by.get("lattice"), server("nats"), server("data_nats"))


def from_file(path: Path) -> Settings:
    """Raises BadInput when it cannot be read or says something that means nothing."""
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(Finding("TRL-CLI-002", f"cannot read {path}: {error.strerror or error}")) from error
    except ValueError as error:
        raise BadInput(Finding("TRL-CLI-003", f"{path} is not TOML: {error}")) from error
    known = ("lattice", "nats", "data")
    findings = [*_unknown(path, said, known, "")]
    servers: dict[str, Server] = {}
    for section in known[1:]:
        table = said.get(section, {})
        if not isinstance(table, dict):
            findings.append(
                Finding("TRL-CLI-003", f"{path}: {section} is not a table", fix=f"write [{section}] above it")
            )
            continue
        findings += _unknown(path, table, ("url", *(one.name for one in fields(Login))), f"{section}.")
        findings += _not_text(path, table, f"{section}.")
        texts = {key: value for key, value in table.items() if isinstance(value, str) and value}
        paths = {key: str(path.parent.absolute() / texts[key]) for key in PATHS if key in texts}
        login = {one.name: {**texts, **paths}.get(one.name) for one in fields(Login)}
        servers[section] = Server(texts.get("url"), Login(**login))
    findings += _not_text(path, {key: said[key] for key in ("lattice",) if key in said}, "")
    if findings:
        raise BadInput(*findings)
    return Settings(said.get("lattice"), servers["nats"], servers["data"])


def to_text(said: Settings) -> str:
    """What `from_file` reads as `said`."""
    lines = [f"lattice = {json.dumps(said.lattice)}"] if said.lattice else []
    for section, server in (("nats", said.nats), ("data", said.data)):
        values = {"url": server.url, **{one.name: getattr(server.login, one.name) for one in fields(Login)}}
        rows = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value]
        lines += [f"[{section}]", *rows] if rows else []
    return "\n".join([*lines, ""])


def _unknown(path: Path, said: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[Finding]:
    findings = []
    for key in said.keys() - set(known):
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; did you mean `{where}{close[0]}`?" if close else ""
        why = f"there are {', '.join(known)}"
        findings.append(Finding("TRL-CLI-003", f"{path}: nothing is called `{where}{key}`{hint}", why=why))
    return findings


def _not_text(path: Path, said: Mapping[str, Any], where: str) -> list[Finding]:
    return [
        Finding("TRL-CLI-003", f"{path}: {where}{key} is not text", fix="write it in quotes")
        for key, value in said.items()
        if not isinstance(value, str)
    ]


# -- to connections


def options(server: Server, name: str) -> NatsOptions:
    """How a process called `name` connects. Raises BadInput for a file that cannot be used."""
    login = server.login
    return NatsOptions(
        server.url or DEFAULT_URL,
        user=login.user,
        password=login.password,
        token=login.token,
        jwt=_text(login.jwt) if login.jwt else None,
        nkey_seed=_seed(login.nkey) if login.nkey else None,
        creds_file=login.creds,
        ca_file=login.ca,
        cert_file=login.cert,
        key_file=login.key,
        inbox_prefix=login.inbox,
        domain=login.domain,
        name=name,
    )


def data_options(settings: Settings, name: str) -> NatsOptions | None:
    """The connection for calls, where it is another one: what is not said of it is as for control."""
    return options(settings.data.over(settings.nats), name) if settings.data else None


def _text(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise BadInput(Finding("TRL-CLI-002", f"cannot read {file}: {error}")) from error


def _seed(file: str) -> str:
    seed = next((line.strip() for line in _text(file).splitlines() if line.startswith("S")), "")
    if not seed:
        raise BadInput(
            Finding("TRL-CLI-002", f"{file} holds no nkey seed", why="a line of it must begin with S, as in SUAB...")
        )
    return seed
