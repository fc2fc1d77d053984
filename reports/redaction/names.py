"""Consistent pseudonyms for hosts, users, addresses, mail and paths: the same thing has the same name in every bundle.

The map stays on this machine, readable by its owner alone, so that owner and vendor can talk about ``host-3``.
"""

from __future__ import annotations

import getpass
import ipaddress
import json
import os
import re
import socket
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from reports.redaction.values import is_dull

Replacement = tuple[int, int, str]

MAP: Final = "pseudonyms.json"
PUBLIC_HOSTS: Final = re.compile(
    r"(?:.*\.)?(?:github\.com|githubusercontent\.com|gitlab\.com|huggingface\.co|python\.org|readthedocs\.io|vllm\.ai"
    r"|ray\.io|sglang\.ai|nvidia\.com|amd\.com|docker\.io|docker\.com|ghcr\.io|quay\.io|kernel\.org|debian\.org"
    r"|ubuntu\.com|anaconda\.org|conda\.io|apache\.org|gnu\.org|example\.(?:com|org|net)|w3\.org|json-schema\.org"
    r"|googleapis\.com|google\.com|openai\.com|anthropic\.com|perfetto\.dev|localhost|localdomain)$|pypi\.|.*pytorch\."
)
_HOME: Final = re.compile(
    r"(?P<base>/(?:home|Users|var/home|export/home|mnt/home|nfs/home|data/home|u))/(?P<user>[A-Za-z0-9_][\w.-]*)"
)
_USER_AT: Final = re.compile(r"(?<![\w/.+-])(?P<user>[A-Za-z_][\w.+-]*)@(?P<host>[A-Za-z0-9][\w-]*(?:\.[\w-]+)*)")
_USER: Final = re.compile(
    r"(?<![\w-])(?:user(?:_?name)?|USER(?:NAME)?|LOGNAME|SUDO_USER|owner|login|uid=\d+|gid=\d+)(?:\\*[\"'])?"
    r"(?:[ \t]*[=:][ \t]*|\()(?:\\*[\"'])?(?P<user>[A-Za-z_][\w.-]{1,31})"
)
_URL_HOST: Final = re.compile(
    r"(?<![A-Za-z0-9])[a-z][a-z0-9+.-]{1,15}://(?:[^\s/@\"'<>]*@)?(?P<host>[A-Za-z0-9][\w.-]*[A-Za-z0-9])"
)
_HOST_NAMED: Final = re.compile(
    r"(?i)(?<![\w-])(?:host(?:_?name)?|node(?:_?(?:name|manager_hostname))?|fqdn|server|master_addr|head_node)(?:\\*[\"'])?"
    r"[ \t]*[=:][ \t]*(?:\\*[\"'])?(?P<host>[A-Za-z0-9][\w.-]*[A-Za-z0-9])"
)
_CODE: Final = re.compile(r"(?:self|cls)\.")
_ASSIGNED: Final = re.compile(r"[ \t]*[A-Za-z_][\w.]* = (?=[A-Za-z_][\w.]*[(\[](?!\d+\.\d+\.\d))")
"""A line of Python that assigns a call or an element; ``host: node12(10.1.2.3)`` and ``node=gpu17[0]`` are logs."""
_V4: Final = re.compile(r"(?<![\w.+=-])(?P<address>\d{1,3}(?:\.\d{1,3}){3})(?![\w+-]|\.\w)")
_V4_SURE: Final = re.compile(
    r"(?:(?<=ip-)|(?<=ip=)|(?<=//)|(?<=@)|(?<=addr=)|(?<=address=)|(?<=host=)|(?<=node:))(?P<address>\d{1,3}(?:[.-]\d{1,3}){3})(?!\d)"
)
_V6: Final = re.compile(
    r"(?<![\w:.])(?P<address>(?:[0-9A-Fa-f]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{0,4}))(?![\w:]|\.\d)"
)
_MAC: Final = re.compile(
    r"(?<![\w:-])(?P<address>[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\2[0-9A-Fa-f]{2}){4})(?![\w:-])"
)
_VERSION_BEFORE: Final = re.compile(
    r"(?i)(?:[=<>~!]=|[=<>]|\bv|version\S*|release|driver|cudnn|cublas|cufft|nccl|rccl|rocm|cuda|\w-)[ \t:(\"']*$"
    r"|^[ \t]*(?:\[\w+\][ \t]*)?(?:[A-Za-z][\w.-]*[ \t]{2,}|[A-Za-z][\w.]*-[\w.-]*[ \t]+)$"
)
_PRIVATE_ROOTS: Final = re.compile(
    r"(?<![\w.~])(?P<path>/(?:mnt|data|scratch|lustre|gpfs|nfs|workspace|projects?|proj|work|shared|fsx|efs|weka|beegfs|srv|root|"
    r"Volumes|media|app|code|repo|build|storage|home|Users)\d*(?:/(?!(?:lib(?:64)?/python3|bin/|site-packages))[\w.@+=,-]*[\w@+=-])+)"
)
_PYTHON: Final = re.compile(
    r"(?P<root>/[^\s\"':,;]*?)(?P<rest>/(?:lib(?:64)?/python3\.\d+|bin/(?:python|pip|ray|vllm|uv|torchrun|crashcart)|(?:bin|lib)(?=…)))(?=[\w./…]|$|[\s\"'])"
)
"""An environment, also where a merged stack has cut the name of its interpreter short."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::", "255.255.255.255", "255.255.255.0"})  # noqa: S104
_NOBODY: Final = frozenset(
    {"root", "nobody", "user", "users", "daemon", "www-data", "ubuntu", "shared", "git", "username", "none"}
)
_LABEL: Final = re.compile(r"(?:host|user|address|dir|env|project|run|mail|mac)-\d+$")
_FILE: Final = re.compile(r"[\w+,=@-][\w.+,=@-]*\.\w{1,8}$")


class Names:
    """Gives and remembers pseudonyms.

    Args:
        file: The private map; ``None`` keeps nothing.
        common: Words that stack frames and versions are made of; no user or host of such a name is replaced alone.
    """

    def __init__(self, file: Path | None, common: frozenset[str] = frozenset()) -> None:
        self.file = file
        self.common = common
        self.known: dict[str, dict[str, str]] = _read(file)
        self.roots: list[tuple[str, str]] = []
        self.words: dict[str, tuple[str, str]] = {}
        """Names that are replaced as whole words wherever they stand."""

    def name(self, kind: str, value: str) -> str:
        """Return the pseudonym of a thing, the same one every time."""
        table = self.known.setdefault(kind, {})
        return table.setdefault(value, f"{kind}-{len(table) + 1}")

    def add_root(self, folder: str, kind: str) -> None:
        """Let everything below a folder be told relative to a named one; folders of the system stay as they are."""
        folder = folder.rstrip("/")
        if folder.count("/") >= 1 and len(folder) > 3 and folder not in {"/usr", "/usr/local", "/opt", "/tmp", "/var"}:  # noqa: PLR2004, S108
            self.roots.append((folder, kind))
            self.roots.sort(key=lambda root: -len(root[0]))

    def add_host(self, name: str) -> None:
        """Replace a host name, and its first part, wherever they stand as words."""
        for part in {name, name.partition(".")[0]}:
            if len(part) >= 4 and not self._is_common(part) and part != "localhost" and not part.isdigit():  # noqa: PLR2004
                self.words[part] = ("host", name.partition(".")[0])

    def add_user(self, name: str) -> None:
        """Replace a user's name wherever it stands as a word, unless it is too common a word."""
        if len(name) >= 4 and name not in _NOBODY and not self._is_common(name):  # noqa: PLR2004
            self.words[name] = ("user", name)

    def learn(self, text: str) -> None:
        """Take hosts and users from the places of a text that name them, so that they are found elsewhere."""
        for found in _HOME.finditer(text):
            self.add_user(found["user"])
        for found in _USER.finditer(text):
            if not is_dull(found["user"]) and not _LABEL.match(found["user"]):
                self.add_user(found["user"])
        for found in _hosts(text):
            self.add_host(found["host"])

    def find(self, text: str) -> Iterator[Replacement]:
        """Yield start, end and new text of what names a person, a machine or a place."""
        yield from self._paths(text)
        for pattern, kind in ((_MAC, "mac"), (_V6, "address"), (_V4, "address"), (_V4_SURE, "address")):
            for found in pattern.finditer(text):
                start, end = found.span("address")
                if found["address"] in self.common:
                    continue  # the version of a package that is installed here
                if kind == "mac" or _is_address(text, start, found["address"], sure=pattern is _V4_SURE):
                    yield start, end, self.name(kind, found["address"].replace("-", "."))
        yield from self._people_and_hosts(text)
        yield from self._words(text)

    def _people_and_hosts(self, text: str) -> Iterator[Replacement]:
        for found in _USER_AT.finditer(text):
            if (
                found["user"] not in _NOBODY
                and not found["user"].startswith("0x")
                and _is_mail(found["host"], self.words)
            ):
                yield *found.span("user"), self.name("user", found["user"])
                if not PUBLIC_HOSTS.match(found["host"]):
                    yield *found.span("host"), self.name("host", found["host"].partition(".")[0])
        for found in _USER.finditer(text):
            if found["user"].lower() not in _NOBODY and not is_dull(found["user"]) and not _LABEL.match(found["user"]):
                yield *found.span("user"), self.name("user", found["user"])
        for found in _hosts(text):
            if not self._is_common(found["host"]):
                yield *found.span("host"), self.name("host", found["host"].partition(".")[0])

    def save(self) -> None:
        """Write the map for its owner alone; a map that cannot be written is given up silently by its caller's wish."""
        if self.file is None:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as out:
            json.dump(self.known, out, indent=1, sort_keys=True)
        temporary.replace(self.file)

    def _words(self, text: str) -> Iterator[Replacement]:
        for word, (kind, value) in self.words.items():
            if word not in text:
                continue
            for found in re.finditer(rf"(?<![A-Za-z0-9_]){re.escape(word)}(?![A-Za-z0-9_])", text):
                yield *found.span(), self.name(kind, value)

    def _paths(self, text: str) -> Iterator[Replacement]:
        for folder, kind in self.roots:
            for found in re.finditer(rf"(?<![\w.-]){re.escape(folder)}(?=[/\s\"':,;)\]}}\\]|$)", text):
                yield *found.span(), "/" + self.name(kind, folder)
        for found in _PYTHON.finditer(text):
            if not found["root"].startswith(("/usr", "/opt/conda", "/opt/rocm", "/env-")):
                yield *found.span("root"), "/" + self.name("env", found["root"])
        for found in _HOME.finditer(text):
            if found["user"].lower() not in _NOBODY and not _LABEL.match(found["user"]):
                yield *found.span("user"), self.name("user", found["user"])
        for found in _PRIVATE_ROOTS.finditer(text):
            yield found.start("path"), found.end("path"), self._private(found["path"])

    def _private(self, path: str) -> str:
        """Return a path below a folder of somebody's own: its folders renamed, the name of its file kept."""
        parts = path.strip("/").split("/")
        keep = 1 if parts[0] in {"home", "Users", "root"} else 0
        folders, last = parts[:-1], parts[-1]
        if not _FILE.fullmatch(last):
            folders, last = parts, ""
        shown = [parts[0]] if keep else []
        for folder in folders[keep:]:
            label = bool(_LABEL.match(folder)) or folder in {"site-packages", "dist-packages", "lib", "bin"}
            shown.append(folder if label else self.name("dir", folder))
        return "/" + "/".join([*shown, *([last] if last else [])])

    def _is_common(self, word: str) -> bool:
        return word.lower() in self.common


def this_machine(names: Names, run: Path) -> None:
    """Add what this machine is called, who we are, and where the run and the program lie."""
    with suppress(OSError):
        names.add_host(socket.gethostname())
        names.add_host(socket.getfqdn())
    names.add_host(os.environ.get("HOSTNAME", ""))
    with suppress(KeyError, OSError, ImportError):
        names.add_user(getpass.getuser())
    for variable in ("USER", "LOGNAME", "SUDO_USER"):
        names.add_user(os.environ.get(variable, ""))
    for folder, kind in _folders(run):
        names.add_root(folder, kind)


def _folders(run: Path) -> Sequence[tuple[str, str]]:
    found = [(str(run.absolute()), "run"), (str(run.resolve()), "run"), (sys.prefix, "env"), (os.getcwd(), "project")]  # noqa: PTH109
    found += [(str(Path(sysconfig.get_paths()["purelib"]).parents[2]), "env")]
    found += [
        (os.environ[name], "dir") for name in ("CRASHCART_CACHE", "XDG_CACHE_HOME", "HF_HOME") if os.environ.get(name)
    ]
    return list(dict.fromkeys(found))


def _is_address(text: str, start: int, address: str, *, sure: bool) -> bool:
    try:
        parsed = ipaddress.ip_address(address.replace("-", ".") if ":" not in address else address)
    except ValueError:
        return False
    if str(parsed) in _LOOPBACK or address in _LOOPBACK or parsed.is_loopback:
        return False
    if parsed.version == 6:  # noqa: PLR2004
        groups = [group for group in address.split(":") if group]
        return len(groups) >= 4 or (len(groups) >= 2 and bool(re.match(r"(?i)f[de]|[23]\w{3}", groups[0])))  # noqa: PLR2004
    return sure or not _VERSION_BEFORE.search(text[max(0, start - 60, text.rfind("\n", 0, start) + 1) : start])


def _hosts(text: str) -> Iterator[re.Match[str]]:
    """Yield where a text names a host; ``server = self.choose(turn)`` names none, and reproducers have such lines."""
    for pattern in (_URL_HOST, _HOST_NAMED):
        for found in pattern.finditer(text):
            code = pattern is _HOST_NAMED and _is_code(text, found.start("host"))
            if not code and _is_host(found["host"], sure=pattern is _URL_HOST):
                yield found


def _is_code(text: str, start: int) -> bool:
    assigned = _ASSIGNED.match(text, text.rfind("\n", 0, start) + 1)
    return (assigned is not None and assigned.end() == start) or _CODE.match(text, start) is not None


def _is_host(host: str, *, sure: bool) -> bool:
    if re.fullmatch(r"[\d.]+|[0-9a-f]{20,}", host) or PUBLIC_HOSTS.match(host) or _LABEL.match(host) or is_dull(host):
        return False
    return sure or bool(re.search(r"[\d.-]", host))


def _is_mail(host: str, words: dict[str, tuple[str, str]]) -> bool:
    return bool(re.search(r"\.[A-Za-z]{2,}$", host)) or host in words


def _read(file: Path | None) -> dict[str, dict[str, str]]:
    if file is None:
        return {}
    try:
        loaded = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return {str(kind): dict(table) for kind, table in loaded.items()} if isinstance(loaded, dict) else {}
