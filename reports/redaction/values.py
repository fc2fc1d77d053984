"""Which values are secret: those of the environment, and those that a text itself calls by a secret's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

LABEL: Final = "[secret:{}]"
SHORTEST: Final = 8
"""Characters from which a value is looked for anywhere; a shorter one is replaced beside its name only."""

_SECRET_WORDS: Final = re.compile(
    r"(?:^|_)(?:token|secret|secrets|passw|passwd|password|passwords|passphrase|pwd|pass|apikey|credential|credentials"
    r"|creds|auth|authorization|bearer|cookie|cookies|dsn|webhook|sessionid|otp|mfa|sas|(?:amz|goog|oss|cos|hmac|request)_signature|sig|jwt|pat|pgpassword"
    r"|mysqlpwd|accesskey|secretkey|privatekey|authtoken|accesstoken|refreshtoken|clientsecret|pin|seed_phrase|mnemonic"
    r"|security_code|kubeconfig_data|connection_string|conn_str|connectionstring|netrc|htpasswd)"
    r"(?:_(?:value|data|header|string|base64|b64|json|text|plain|raw|old|new|prod|dev|staging|test|main|default|\d+))*$"
)
_KEY_WORDS: Final = re.compile(
    r"(?:^|_)(?:api|access|secret|private|account|signing|encryption|shared|shared_access|master|auth|app|application"
    r"|license|ssh|service|storage|subscription|admin|client|deploy|deployment|webhook|consumer|hmac|aes|jwt|wandb|hf"
    r"|openai|anthropic|session|security|token|function|host|server|project|user|bot|team|write|read|ingest|dd_api)"
    r"_?key(?:_(?:id|base64|b64|value|data|pem|\d+))*$"
)
_NO_SECRET: Final = re.compile(
    r"(?:^|_)(?:eos|bos|pad|unk|sep|cls|mask|stop|special|image|video|audio|additional_special|max|min|num|new|per|next"
    r"|first|last|prompt|output|input|total|sampled|draft|end|begin|cancellation)_token$"
    r"|(?:^|_)(?:files?|paths?|dir|folder|sock|socket|len|length|count|size|type|name|names|mode|method|timeout|ttl|scheme"
    r"|provider|class|enabled|required|expiry|expires_in|limit|url_path|ids?|parallelism)$|^crashcart_|^pwd$|^oldpwd$"
    r"|^ssh_auth_sock$|^function_signature$|^signature$|^method_signature$|^model_signature$"
)
_ENV_KEY: Final = re.compile(r"(?:^|_)keys?(?:_(?:id|base64|b64|pem|\d+))?$")
_DULL: Final = re.compile(
    r"(?i)(?:none|null|nil|true|false|yes|no|on|off|default|auto|unset|empty|required|optional|enabled|disabled|local"
    r"|localhost|undefined|missing|invalid|basic|bearer|digest|str|int|bytes|bool|float|dict|list|tuple|object|ascii"
    r"|redacted|hidden|example|password|secret|token|anonymous|\*+|x+|\.+|-+|<[^>]*>|\$\{?\w+\}?|\[secret:.*"
    r"|[\d.]+(?:e[+-]?\d+)?|0x[0-9a-f]+)$"
)
_DIGITS: Final = re.compile(r"(?i)(?:pin|otp|mfa|pwd|code|pass\w*)$")
"""Names of secrets that may well be nothing but digits."""
_ASSIGNED: Final = re.compile(
    r"(?<![A-Za-z0-9])(?P<name>-{0,2}[A-Za-z_][\w.-]{1,80})(?P<close>(?:\\*[\"'])?(?:\])?)"
    r"(?P<sep>[ \t]*(?:=>|:=|=|:)[ \t]*|(?:\\*[\"'])?,\s*|[ \t]+)(?P<open>(?:[bBrRuUfF]?\\*[\"'])?)"
    r"(?:(?P<scheme>Bearer|Basic|Token|token|Digest|ApiKey)[ \t]+)?(?P<value>[^\s\"'\\<>{}\[\](),;&]{1,4096})"
)
_USERINFO: Final = re.compile(
    r"(?<![A-Za-z0-9])[a-zA-Z][a-zA-Z0-9+.-]{1,20}://(?P<user>[^\s/:@\"'<>]*)(?::(?P<password>[^\s/\"'<>]*?))?@(?=[\w\[])"
)
_PAIR: Final = re.compile(
    r"(?:^|\s|[\"'])(?:-u|--user|--userpwd|--proxy-user)(?:[= ]|[\"'],\s*[\"'])[\"']?[^\s:\"']+:(?P<value>[^\s\"']+)"
)
_OPTION: Final = re.compile(
    r"\b(?:sshpass|mysql|redis-cli|mysqldump)\b[^\n]*?\s-(?:p|a)[ ]?(?P<value>[^\s\"'-][^\s\"']+)"
)
_COOKIE: Final = re.compile(r"(?i)\b(?:set-)?cookie(?:\\*[\"'])?\s*[:=]\s*(?:\\*[\"'])?(?P<value>[^\r\n\"'\\]+)")
_NETRC: Final = re.compile(r"\blogin\s+\S+\s+(?:account\s+\S+\s+)?password\s+(?P<value>\S+)")
_PROSE: Final = re.compile(
    r"(?i)\b(?:password|passphrase|token|secret|api key)\s+(?:is|was|of|set to)\s+[\"'`]?(?P<value>[^\s\"'`,;]{6,})"
)


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must not leave, and by what name it is replaced."""

    value: str
    name: str
    anywhere: bool = True
    """Whether it is looked for everywhere; otherwise it was too short or too common a word for that."""

    @property
    def label(self) -> str:
        """What stands in its place."""
        return LABEL.format(self.name)


@lru_cache(maxsize=20_000)
def is_secret_name(name: str, *, environment: bool = False) -> bool:
    """Whether a variable, option, key or header of that name holds a secret."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-_"))
    words = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    if _NO_SECRET.search(words):
        return False
    known = _SECRET_WORDS.search(words) or _KEY_WORDS.search(words)
    return bool(known or (environment and (_ENV_KEY.search(words) or re.search(r"passw|secret|credential", words))))


def is_dull(value: str) -> bool:
    """Whether a value says nothing: a switch, a number, a placeholder."""
    return not value or bool(_DULL.match(value))


def secret_names(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of an environment that hold secrets, by their names or as URLs with a password."""
    return sorted(
        name
        for name, value in environment.items()
        if (is_secret_name(name, environment=True) and not is_dull(value) and not _is_place(value))
        or (not name.startswith("CRASHCART_") and any(True for _ in userinfo(value)))
    )


def from_environment(environment: Mapping[str, str], common: frozenset[str]) -> Iterator[Secret]:
    """Yield the secret values of an environment; ``common`` are words that stack frames and versions are made of."""
    for name, value in environment.items():
        for _, _, inner in userinfo(value):
            yield Secret(inner, name, anywhere=_is_findable(inner, common))
            yield Secret(unquote(inner), name, anywhere=_is_findable(unquote(inner), common))
        if is_secret_name(name, environment=True) and not is_dull(value) and not _is_place(value):
            yield Secret(value, name, anywhere=_is_findable(value, common))
            for line in value.splitlines():
                if len(line) >= 16 and line != value and not line.startswith("-----"):  # noqa: PLR2004
                    yield Secret(line.strip(), name, anywhere=_is_findable(line.strip(), common))


def assigned(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and name of each value that stands beside the name of a secret."""
    position = 0
    while (found := _ASSIGNED.search(text, position)) is not None:
        position = found.end("name") + 1  # a value may be the name of the next one
        name = found["name"]
        if not _names_a_secret(text, found):
            continue
        value = found["value"].rstrip(".:") if not found["open"] else found["value"]
        digits = value.isdigit() and len(value) >= 4 and _DIGITS.search(name)  # noqa: PLR2004
        if (digits or not is_dull(value)) and not _is_place(value) and len(value) > 2:  # noqa: PLR2004
            start, end = found.start("value"), found.start("value") + len(value)
            if found["open"]:
                end = _closing(text, found)
            position = end
            yield start, end, name.strip("-_")
    for pattern, name in (
        (_PAIR, "password"),
        (_OPTION, "password"),
        (_NETRC, "password"),
        (_COOKIE, "cookie"),
        (_PROSE, "password"),
    ):
        for match in pattern.finditer(text):
            if not is_dull(match["value"]):
                yield *match.span("value"), name
    yield from ((start, end, "url-password") for start, end, _ in userinfo(text))


def _names_a_secret(text: str, found: re.Match[str]) -> bool:
    """Whether name and separator of an assignment are such that the value is a secret one."""
    name, separator = found["name"], found["sep"]
    option = name.startswith("--")
    if "," in separator and not (option and found["open"]):
        return False
    if text[found.start() - 1 : found.start()] == "[" and name == "secret":  # our own label
        return False
    bare = not separator.strip()
    if bare and (found["value"].startswith("--") or not (option or found["scheme"])):
        return False
    if not found["open"] and text[found.end("value") : found.end("value") + 1] == "(":
        return False  # a call in a line of source
    if name.lower() == "pass" and separator.strip() == ":" and not found["open"] and found["value"].isalpha():
        return False  # "must pass: yes" is prose
    return is_secret_name(name)


def _closing(text: str, found: re.Match[str]) -> int:
    """Return where a quoted value ends: at the quote that it began with."""
    quote = found["open"][-1]
    backslashes = found["open"].count("\\")
    start = found.start("value")
    line_end = text.find("\n", start)
    stop = len(text) if line_end < 0 else line_end
    end = text.find("\\" * backslashes + quote, start, stop)
    return end if end >= 0 else found.end("value")


def userinfo(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and value of the passwords, or tokens in place of a user, that stand in URLs."""
    for found in _USERINFO.finditer(text):
        if found["password"]:
            yield *found.span("password"), found["password"]
            if found["user"] and len(found["user"]) >= 20:  # noqa: PLR2004 - no user is called so
                yield *found.span("user"), found["user"]
        elif found["user"] and len(found["user"]) >= 16:  # noqa: PLR2004
            yield *found.span("user"), found["user"]


def harvested(value: str, name: str, common: frozenset[str]) -> Iterator[Secret]:
    """Yield a value that a text gave away beside its name, so that it is found where it stands alone."""
    pieces = [value.strip()]
    if name == "cookie":
        pieces = [piece.partition("=")[2].strip() for piece in value.split(";")]
    for piece in pieces:
        for shape in {piece, unquote(piece)}:
            yield Secret(shape, name, anywhere=_is_opaque(shape, common))


def _is_findable(value: str, common: frozenset[str]) -> bool:
    return len(value) >= SHORTEST and value.lower() not in common and not value.isdigit()


def _is_opaque(value: str, common: frozenset[str]) -> bool:
    """Whether a value that a text called secret may be replaced everywhere without hurting what is none."""
    if not _is_findable(value, common) or re.fullmatch(r"[\w-]+(?:\.[A-Za-z_][\w-]*)+(?:\(.*\)?)?", value):
        return False
    mixed = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return mixed or (len(value) >= 12 and not any(word in common for word in re.split(r"[^a-z0-9_]+", value.lower())))  # noqa: PLR2004


def _is_place(value: str) -> bool:
    return value.startswith(("/", "./", "~/", "../")) and "=" not in value and len(value) < 120 and value.count("/") > 1  # noqa: PLR2004


def distinct(secrets: Iterable[Secret]) -> list[Secret]:
    """Return each value once, the longest first; one that is findable under any name is findable."""
    best: dict[str, Secret] = {}
    for secret in secrets:
        if secret.value and (secret.value not in best or (secret.anywhere and not best[secret.value].anywhere)):
            best[secret.value] = secret
    return sorted(best.values(), key=lambda secret: -len(secret.value))
