"""Names that a user imports from `ingestion`: each is there, and is what it says."""

import ingestion


def test_every_origin_is_had_from_the_package_and_nothing_else_is_promised() -> None:
    assert (
        set(ingestion.__all__) == {name for names in ingestion.HOMES.values() for name in names} <= set(dir(ingestion))
    )
    for name in ingestion.__all__:
        assert getattr(ingestion, name).__name__ == name
