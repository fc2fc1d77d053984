"""The last look at a finished archive, by other means than the redactor's: nothing that it finds may leave.

Everything but letters and digits is taken out of text and secret alike, before and after each decoding; what is then
found is a secret, however it was broken or wrapped.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote
from zipfile import ZipFile

from reports.redaction.shapes import find_shapes
from reports.redaction.values import Secret

SURE: Final = 10
"""Letters and digits from which a squeezed secret proves something; shorter ones are compared as they stand."""
_SQUEEZE: Final = re.compile(r"[^A-Za-z0-9]+")
_LABELS: Final = re.compile(r"\[secret:[^\]]*\]")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\r\n-]{16,}")


def leaks(archive: ZipFile, secrets: Iterable[Secret]) -> Iterator[str]:
    """Yield, for each secret that an archive still holds, where it lies and what it is called; never its value."""
    wanted = [(_SQUEEZE.sub("", secret.value), secret) for secret in secrets if secret.anywhere]
    for name in archive.namelist():
        text = _LABELS.sub("\N{SYMBOL FOR NULL}", f"{name}\n{archive.read(name).decode('utf-8', errors='replace')}")
        found = dict.fromkeys([*_known(text, wanted), *(kind for _, _, kind in find_shapes(text))])
        yield from (f"{name}: {what}" for what in found)


def _known(text: str, wanted: list[tuple[str, Secret]]) -> Iterator[str]:
    unquoted = unquote(unquote(text))
    squeezed = {_SQUEEZE.sub("", text), _SQUEEZE.sub("", unquoted), _SQUEEZE.sub("", _escapes(unquoted))}
    decoded = list(_decoded(text))
    for pressed, secret in wanted:
        if (
            secret.value in text
            or any(secret.value in inner for inner in decoded)
            or (
                len(pressed) >= SURE
                and not pressed.isdigit()
                and not (pressed.isalpha() and pressed.islower())
                and any(pressed in form for form in squeezed)
            )
        ):
            yield secret.name


def _escapes(text: str) -> str:
    return re.sub(r"\\+[nrt]", "", re.sub(r"\\+u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text))


def _decoded(text: str) -> Iterator[str]:
    for found in _BASE64.finditer(text):
        body = re.sub(r"[\r\n=]", "", found[0]).replace("-", "+").replace("_", "/")
        for skip in range(4):
            piece = body[skip:]
            piece = piece[: len(piece) // 4 * 4]
            try:
                yield base64.b64decode(piece).decode("latin-1")
            except (binascii.Error, ValueError):
                continue
