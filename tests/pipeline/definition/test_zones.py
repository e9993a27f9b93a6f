"""A clock on the wall means one moment, or none that is known: held to zoneinfo.

clock(zone).utc(shown) = zoneinfo's answer where both folds agree, unknown where they do not
"""

from datetime import UTC, datetime, timedelta
from importlib import resources

import numpy as np
import pytest

from pipeline import Zone
from pipeline.base.errors import DefinitionError
from pipeline.definition.zones import clock, zone_info

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = resources.files("tzdata").joinpath("zones").read_text().split()
FEW = [
    "Europe/Berlin",
    "America/New_York",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Asia/Manila",
    "Pacific/Apia",
    "UTC",
]


def by_zoneinfo(key: str, shown_us: int) -> int | None:
    """The one moment that a clock in the zone shows so, None without one."""
    zone, shown = zone_info(key), EPOCH.replace(tzinfo=None) + timedelta(microseconds=shown_us)
    first, second = (shown.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    assert first is not None
    return shown_us - first // timedelta(microseconds=1) if first == second else None


def shown_times(key: str, seed: int, count: int) -> np.ndarray:
    """Anywhere in the years 2 to 9999, and around the ends of the stretches."""
    rng, found = np.random.default_rng(seed), clock(key)
    least, most = ((datetime(year, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1) for year in (2, 9999))
    edges = np.concatenate((found.starts[1:], found.ends[:-1]))
    near = (
        rng.choice(edges, count) + rng.integers(-2, 3, count) * rng.choice([1, 1_000_000, 3_600_000_000], count)
        if len(edges)
        else []
    )
    again = np.asarray(near, np.int64) + rng.integers(0, 15, len(near)) * 146_097 * 86_400_000_000
    whole = np.concatenate((rng.integers(least, most, count), near, again)).astype(np.int64)
    return whole[(whole >= least) & (whole < most)]


def check(key: str, shown: np.ndarray) -> None:
    moments, known = clock(key).utc(shown)
    for at, moment, is_known in zip(shown.tolist(), moments.tolist(), known.tolist(), strict=True):
        assert (moment if is_known else None) == by_zoneinfo(key, at), f"{key}: {EPOCH + timedelta(microseconds=at)}"


@pytest.mark.parametrize("key", FEW)
def test_a_clock_means_what_zoneinfo_says(key: str) -> None:
    check(key, shown_times(key, 2013, 2000))


@pytest.mark.slow
def test_a_sample_of_all_clocks_means_what_zoneinfo_says() -> None:
    for number, key in enumerate(ZONES[5::29]):
        check(key, shown_times(key, number, 200))


def test_the_hour_that_spring_skips_and_the_one_that_autumn_repeats_are_not_known() -> None:
    texts = ["2024-03-31T01:59:59.999999", "2024-03-31T02:00", "2024-03-31T02:59:59", "2024-03-31T03:00"]
    texts += ["2024-10-27T01:59", "2024-10-27T02:00", "2024-10-27T02:59:59", "2024-10-27T03:00"]
    shown = np.array(
        [(datetime.fromisoformat(text + "+00:00") - EPOCH) // timedelta(microseconds=1) for text in texts], np.int64
    )
    assert clock("Europe/Berlin").utc(shown)[1].tolist() == [True, False, False, True] * 2


def test_a_zone_that_there_is_not_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(DefinitionError) as caught:
        Zone("Europe/Berln")
    assert "Did you mean 'Europe/Berlin'?" in str(caught.value)
    for wrong in ("", "../etc/passwd", "Europe", "/etc/localtime", "Europe/", "zones"):
        with pytest.raises(DefinitionError):
            Zone(wrong)


def test_the_machines_own_zone_data_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONTZPATH", "/nonexistent")
    assert zone_info("Europe/Berlin").utcoffset(datetime(2024, 7, 1, tzinfo=UTC)) == timedelta(hours=2)
