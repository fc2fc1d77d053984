"""Takes secrets out of texts and gives people, machines and places pseudonyms; stacks, versions and figures stay.

Two passes: first every text is learnt from, then each is redacted, so that a value that one text gives away beside its
name is found where it stands alone in another.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote, quote_plus

from reports.redaction.names import Names
from reports.redaction.shapes import find_shapes
from reports.redaction.values import LABEL, Secret, assigned, distinct, from_environment, harvested
from reports.redaction.views import Span, View, views

WORD: Final = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9A-Fa-f]{2}[ :]?){12,}(?![0-9A-Za-z])")
LABELS: Final = re.compile(r"\[secret:[^\]\n]*\]")
IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
FRAME: Final = re.compile(
    r"File \"(?P<file>[^\"\n]+)\", line \d+, in (?P<python>[\w<>.]+)"
    r"|^\s*(?P<tool>[\w.<>:~]+) \((?P<place>[^()\n]+:\d+)\)"
    r"|^\s*#\d+ .*? in (?P<gdb>[\w:~<>]+)|\b(?P<error>\w+(?:Error|Exception|Warning))\b",
    re.MULTILINE,
)
_URLSAFE: Final = str.maketrans("+/", "-_")
_COMMON: Final = frozenset({
    "password", "secret", "token", "default", "localhost", "production", "development", "disabled", "enabled", "worker",
    "undefined", "required", "optional", "engine", "executor", "scheduler", "traceback", "exception", "attribute",
    "argument", "application", "python", "version", "warning", "information", "processes", "sigsegv", "sigkill",
    "sigterm", "sigabrt",
})  # fmt: skip


def vocabulary(texts: Iterable[str], packages: Mapping[str, str]) -> frozenset[str]:
    """Return the words that stacks and versions are made of, in lower case: none of them is ever replaced alone."""
    words = set(_COMMON)
    for name, version in packages.items():
        words |= {name.lower(), name.lower().replace("-", "_"), version.lower()}
    for text in texts:
        for found in FRAME.finditer(text):
            for part in found.groups():
                words |= {word.lower() for word in IDENTIFIER.findall(part or "")}
    return frozenset(words)


class Redactor:
    """Redacts the texts of one bundle.

    Args:
        environment: Variables whose secret values are looked for.
        names: Gives the pseudonyms.
        common: See `vocabulary`.
    """

    def __init__(self, environment: Mapping[str, str], names: Names, common: frozenset[str] = _COMMON) -> None:
        self.names = names
        self.common = common
        self.counts: Counter[str] = Counter()
        """How often what was replaced."""
        self._secrets = distinct(from_environment(environment, common))
        self._needles: list[tuple[str, Secret]] | None = None

    @property
    def secrets(self) -> list[Secret]:
        """All values that are known to be secret; never to be printed or written."""
        return list(self._secrets)

    @property
    def unfindable(self) -> list[str]:
        """Names whose values are too short or too common to be looked for where their names do not stand."""
        return sorted({secret.name for secret in self._secrets if not secret.anywhere})

    def learn(self, text: str) -> None:
        """Take from a text what it calls secret, and whom and what it names."""
        found = list(self._secrets)
        for view in views(text):
            for start, end, kind in self._shaped(view):
                found.append(Secret(view.text[start:end], kind))
            for start, end, name in self._named(view):
                found += harvested(view.text[start:end], name, self.common)
        self._secrets = distinct(found)
        self._needles = None
        self.names.learn(text)

    def redact(self, text: str) -> str:
        """Return the text without secrets and with pseudonyms."""
        text = self._replace(text, self._secret_spans(text))
        return self._replace(text, self.names.find(text))

    def _replace(self, text: str, spans: Iterable[tuple[int, int, str]]) -> str:
        kept = [found.span() for found in LABELS.finditer(text)]
        starts = [span[0] for span in kept]
        parts: list[str] = []
        last = 0
        for start, end, new in _apart(spans):
            place = bisect_right(starts, end - 1) - 1
            if place >= 0 and kept[place][1] > start:
                continue
            self.counts[re.sub(r"^/|-\d+$|[/.].*$", "", new) if new[:1] != "[" else new] += 1
            parts += (text[last:start], new)
            last = end
        return "".join([*parts, text[last:]])

    def _secret_spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        for view in views(text):
            for start, end, name in self._in_view(view):
                yield *view.span(start, end), LABEL.format(name)

    def _in_view(self, view: View) -> Iterator[tuple[int, int, str]]:
        for needle, secret in self.needles():
            for start, end in _occurrences(view.text, needle):
                yield start, end, secret.name
        yield from self._shaped(view)
        yield from self._named(view)
        yield from self._encoded(view)

    def _shaped(self, view: View) -> Iterator[tuple[int, int, str]]:
        for start, end, kind in find_shapes(view.text):
            whole = end if kind == "private-key" else self._trimmed(view, start, end)
            if whole == end or any(True for _ in find_shapes(view.text[start:whole])):
                yield start, whole, kind

    def _named(self, view: View) -> Iterator[tuple[int, int, str]]:
        for start, end, name in assigned(view.text):
            yield start, self._trimmed(view, start, end), name

    def _trimmed(self, view: View, start: int, end: int) -> int:
        """Return where a value ends that seems to go on over breaks: the next line may be something else.

        What follows a break belongs to it only if it looks like nothing but a part of a token.
        """
        gaps = [place for place in range(start + 1, end) if view.starts[place] > view.ends[place - 1]]
        for number, gap in enumerate(gaps):
            following = re.match(r"[^\s\"'`<>()\[\]{},;]*", view.text[gap:])
            stop = gaps[number + 1] if number + 1 < len(gaps) else gap + (following.end() if following else 0)
            if not self._continues(view.text[gap:stop]):
                return gap
        return end

    def _continues(self, piece: str) -> bool:
        words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+", piece)]
        mixed = any(char.isdigit() for char in piece) and any(char.isalpha() for char in piece)
        return len(piece) >= 2 and mixed and not any(word in self.common for word in words if len(word) > 2)  # noqa: PLR2004

    def needles(self) -> list[tuple[str, Secret]]:
        """Return what to look for: each findable value as it is and in its encodings."""
        if self._needles is None:
            self._needles = [
                (form, secret) for secret in self._secrets if secret.anywhere for form in forms(secret.value)
            ]
        return self._needles

    def _encoded(self, view: View) -> Iterator[tuple[int, int, str]]:
        """Yield words that hold a secret in base64 or hexadecimal digits."""
        for pattern, decode in ((WORD, _from_base64), (HEX, _from_hex)):
            for found in pattern.finditer(view.text):
                end = self._trimmed(view, *found.span())
                name = self._name_in(decode(view.text[found.start() : end]))
                if name:
                    yield found.start(), end, name

    def _name_in(self, decoded: Iterable[str]) -> str | None:
        """Return the name of a secret in a decoded word, looking twice at what was encoded twice."""
        for text in decoded:
            for secret in self._secrets:
                if secret.anywhere and secret.value in text:
                    return secret.name
            for _, _, kind in find_shapes(text):
                return kind
            for _, _, name in assigned(text):
                return name
            for inner in WORD.findall(text):
                for deeper in _from_base64(inner):
                    if any(secret.anywhere and secret.value in deeper for secret in self._secrets):
                        return "encoded"
        return None


def forms(value: str) -> list[str]:
    """Return a value in the shapes in which programs write it: as it is, URL-encoded, in base64, in hexadecimal."""
    raw = value.encode()
    found = {value, value[::-1], quote(value, safe=""), quote(value), quote_plus(value), raw.hex(), raw.hex().upper()}
    for shift in range(3):
        core = base64.b64encode(b"\0" * shift + raw).decode().rstrip("=")
        first = (0, 2, 3)[shift]
        last = len(core) - (1 if (shift + len(raw)) % 3 else 0)
        if last - first >= 10:  # noqa: PLR2004 - shorter ones stand in any long word by chance
            found |= {core[first:last], core[first:last].translate(_URLSAFE)}
    return sorted(found, key=lambda form: -len(form))


def _occurrences(text: str, needle: str) -> Iterator[Span]:
    """Yield where a value stands; one that is a mere word only where no longer word holds it."""
    word = needle.isalpha() and needle.islower() and len(needle) < 16  # noqa: PLR2004
    position = text.find(needle)
    while position >= 0:
        end = position + len(needle)
        inside = word and (text[position - 1 : position].isalnum() or text[end : end + 1].isalnum())
        if not inside:
            yield position, end
        position = text.find(needle, position + 1)


def _from_base64(word: str) -> Iterator[str]:
    body = word.rstrip("=")
    for alphabet in (body, body.translate(str.maketrans("-_", "+/"))):
        for skip in range(4):
            piece = alphabet[skip:]
            piece = piece[: len(piece) - (len(piece) % 4 == 1)]
            try:
                raw = base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True)
            except (binascii.Error, ValueError):
                continue
            text = raw.decode("utf-8", errors="replace")
            if (
                text
                and sum(char.isprintable() or char in "\r\n\t" for char in text) >= 0.9 * len(text)
                and text.isascii()
            ):
                yield text
        if alphabet == body.translate(str.maketrans("-_", "+/")):
            return


def _from_hex(word: str) -> Iterator[str]:
    digits = re.sub(r"[^0-9A-Fa-f]", "", word.removeprefix("0x"))
    with_even = digits[: len(digits) // 2 * 2]
    text = bytes.fromhex(with_even).decode("utf-8", errors="replace")
    if text.isascii() and all(char.isprintable() or char in "\r\n\t" for char in text):
        yield text


def _apart(spans: Iterable[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield spans in their order; those that overlap are joined, under the name of the first and longest."""
    current: tuple[int, int, str] | None = None
    for start, end, new in sorted(spans, key=lambda span: (span[0], -span[1])):
        if current is None or start >= current[1]:
            if current is not None:
                yield current
            current = (start, end, new)
        elif end > current[1]:
            current = (current[0], end, current[2])
    if current is not None:
        yield current
