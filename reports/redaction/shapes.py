"""Tokens that give themselves away by their shape: the patterns of detect-secrets, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

Found = tuple[int, int, str]
"""Start and end in the text, and what kind of secret it is."""

_LEFT: Final = r"(?<![A-Za-z0-9_])"
OURS: Final[tuple[tuple[str, str], ...]] = (
    (r"hf_[A-Za-z0-9]{20,}", "hugging-face-token"),
    (r"api_org_[A-Za-z0-9]{20,}", "hugging-face-token"),
    (r"sk-(?:ant|proj|svcacct|or|admin|lf)?-?[A-Za-z0-9_-]{20,}", "api-key"),
    (r"nvapi-[A-Za-z0-9_-]{20,}", "nvidia-api-key"),
    (r"AIza[A-Za-z0-9_-]{30,}", "google-api-key"),
    (r"ya29\.[A-Za-z0-9_-]{20,}", "google-access-token"),
    (r"GOCSPX-[A-Za-z0-9_-]{20,}", "google-client-secret"),
    (r"github_pat_[A-Za-z0-9_]{22,}", "github-token"),
    (r"gh[oprsu]_[A-Za-z0-9]{30,}", "github-token"),
    (r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|soat|imt)-[A-Za-z0-9_-]{18,}", "gitlab-token"),
    (r"xox[abeoprs]-[A-Za-z0-9-]{10,}", "slack-token"),
    (r"xapp-\d-[A-Za-z0-9-]{10,}", "slack-token"),
    (r"https://hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{16,}", "slack-webhook"),
    (r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[\w-]{20,}", "discord-webhook"),
    (r"https://[\w-]+\.webhook\.office\.com/\S{20,}", "teams-webhook"),
    (r"https://[0-9a-f]{32}(?::[0-9a-f]{32})?@[\w.-]+/\d+", "sentry-dsn"),
    (r"(?:gsk|xai|r8|lin_api|pplx|fw|tgp_v1|csk|esecret)[_-][A-Za-z0-9_-]{20,}", "api-key"),
    (r"dckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}", "docker-token"),
    (r"npm_[A-Za-z0-9]{30,}", "npm-token"),
    (r"pypi-[A-Za-z0-9_-]{30,}", "pypi-token"),
    (r"hv[bsr]\.[A-Za-z0-9_-]{20,}", "vault-token"),
    (r"dop_v1_[a-f0-9]{40,}", "digitalocean-token"),
    (r"dapi[a-f0-9]{32}", "databricks-token"),
    (r"tskey-[a-z]+-[A-Za-z0-9-]{16,}", "tailscale-key"),
    (r"dp\.(?:pt|st|ct|sa)\.[A-Za-z0-9._-]{30,}", "doppler-token"),
    (r"(?:pul|sha256~)[-~][A-Za-z0-9_-]{36,}", "access-token"),
    (r"(?:sk|rk|pk|whsec)_(?:live|test)_[A-Za-z0-9]{16,}", "stripe-key"),
    (r"whsec_[A-Za-z0-9+/=]{20,}", "stripe-key"),
    (r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{20,}", "sendgrid-key"),
    (r"key-[0-9a-f]{32}", "mailgun-key"),
    (r"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[0-9A-Z]{16}", "aws-access-key-id"),
    (r"(?:NRAK|NRJS|NRII)-[A-Za-z0-9-]{20,}", "new-relic-key"),
    (r"glsa_[A-Za-z0-9]{32}_[a-f0-9]{8}", "grafana-token"),
    (r"AGE-SECRET-KEY-1[0-9A-Z]{40,}", "age-key"),
    (r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}", "postman-key"),
    (r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", "shopify-token"),
    (r"EAA[A-Za-z0-9]{30,}", "facebook-token"),
    (r"AKC[a-zA-Z0-9]{40,}", "artifactory-token"),
    (r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?", "jwt"),
    (r"\d{8,10}:AA[A-Za-z0-9_-]{32,34}", "telegram-token"),
    (r"AQ[A-Za-z0-9]{2}A{2,}[A-Za-z0-9+/=_-]{40,}", "access-token"),
)
PEM: Final = re.compile(
    r"-----BEGIN (?P<what>[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END (?P=what)-----|\Z)", re.DOTALL
)
LEFT_OUT: Final = frozenset({"IPPublicDetector", "KeywordDetector", "PrivateKeyDetector"})
"""Of detect-secrets: addresses have pseudonyms; key words and private keys are treated here and in `values`."""


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """Return a literal that a match begins with (empty where there is none), the pattern, and the kind."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    ours = [(_hint(pattern), re.compile(_LEFT + pattern), kind) for pattern, kind in OURS]
    theirs: list[tuple[str, re.Pattern[str], str]] = []
    mapping: dict[str, Any] = get_mapping_from_secret_type_to_class()
    for kind, plugin in sorted(mapping.items()):
        if issubclass(plugin, RegexBasedDetector) and plugin.__name__ not in LEFT_OUT:
            theirs += [("", regex, kind.lower().replace(" ", "-")) for regex in plugin().denylist]
    return (*ours, *theirs)


def _hint(pattern: str) -> str:
    found = re.match(r"(?:[A-Za-z0-9_:/-]|\\\.)+(?![*+?{])", pattern)
    return found[0].replace("\\", "") if found and "|" not in pattern.partition("(?:")[0] else ""


def find_shapes(text: str) -> Iterator[Found]:
    """Yield every token of a known shape, overlapping ones too."""
    for found in PEM.finditer(text):
        yield found.start(), found.end(), "private-key"
    for hint, pattern, kind in _patterns():
        if hint not in text:
            continue
        for found in pattern.finditer(text):
            groups = [number for number in range(1, (found.re.groups or 0) + 1) if found[number]]
            for number in groups or [0]:
                start, end = found.span(number)
                if _credible(found[number]):
                    yield start, end, kind


def _credible(value: str) -> bool:
    """Whether a match is no ordinary word: tokens have digits, or both cases in one long run."""
    return len(value) >= 8 and any(char.isdigit() for char in value) and "[secret:" not in value  # noqa: PLR2004
