"""The bind parameters that name a row: every table of schema ops begins its key with topic and generation."""

from typing import Any

from pipeline.handover import Claim, Generation


def key_of(generation: Generation) -> dict[str, Any]:
    """All rows of a generation."""
    return {"topic": generation.topic, "generation": generation.number}


def row_of(claim: Claim) -> dict[str, Any]:
    """The position's row that the claim is on."""
    return {"topic": claim.topic, "generation": claim.generation, "partition": claim.partition}


def held_by(claim: Claim) -> dict[str, Any]:
    """Key of that row, as long as this takeover holds it."""
    return {**row_of(claim), "owner": claim.owner, "epoch": claim.epoch}
