"""No planted secret survives, and no frame, version or figure is damaged."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reports.redaction.names import Names
from reports.redaction.redactor import Redactor, vocabulary
from tests.unit.redaction import open_plants, sealed_plants
from tests.unit.redaction.planting import SACRED, Plant, survives

PLANTS = (*open_plants.PLANTS, *sealed_plants.PLANTS)
PACKAGES = {"vllm": "0.32.0", "torch": "2.13.0+cpu", "ray": "2.60.0", "nvidia-cudnn-cu12": "9.10.2.21"}


def redactor_for(plants: Sequence[Plant], texts: Sequence[str]) -> Redactor:
    environment = {name: value for plant in plants for name, value in plant.env.items()}
    redactor = Redactor(environment, Names(None), vocabulary(texts, PACKAGES))
    for text in texts:
        redactor.learn(text)
    return redactor


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.id)
def test_a_planted_secret_alone_does_not_survive(plant: Plant) -> None:
    text = SACRED + plant.text + SACRED
    assert survives(plant.secret, text), "the placement itself must be readable, or this test proves nothing"
    redacted = redactor_for([plant], [text]).redact(text)
    assert not survives(plant.secret, redacted), redacted[len(SACRED) : -len(SACRED)]
    assert redacted.startswith(SACRED)
    assert redacted.endswith(SACRED)


def test_planted_together_none_survives_and_nothing_else_is_damaged() -> None:
    texts = [SACRED, *(plant.text + SACRED for plant in PLANTS)]
    redactor = redactor_for(PLANTS, texts)
    outcome = [redactor.redact(text) for text in texts]
    assert [plant.id for plant in PLANTS if any(survives(plant.secret, text) for text in outcome)] == []
    assert [plant.id for plant, text in zip(PLANTS, outcome[1:], strict=True) if not text.endswith(SACRED)] == []
    assert outcome[0] == SACRED


def test_there_are_enough_kinds_and_places() -> None:
    assert len({plant.kind for plant in PLANTS}) >= 20
    assert len(PLANTS) >= 60
    assert len(sealed_plants.PLANTS) >= max(20, len(PLANTS) // 3)


def test_redacting_twice_changes_nothing() -> None:
    texts = [plant.text for plant in PLANTS]
    redactor = redactor_for(PLANTS, texts)
    once = [redactor.redact(text) for text in texts]
    assert [redactor.redact(text) for text in once] == once
