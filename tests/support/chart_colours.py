"""Colours of the demo's chart, found on a picture of it."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from sandbox import chart
from sandbox.weather import STATIONS

EVERYTHING = {"batch", "real-time", "before", "after", "sky", *STATIONS}


def drawn(path: Path) -> set[str]:
    """Which of the chart's colours are on the picture in earnest, by name: areas of layers and names, the stations' lines."""
    pixels = (imread(path)[..., :3] * 255).round().astype(int)
    found = set()
    areas = {"batch": chart.BATCH, "real-time": chart.SPEED, "before": chart.BEFORE, "after": chart.AFTER}
    for name, colour in {**areas, "sky": chart.SKY, **chart.STATIONS}.items():
        fewest = 300 if name in chart.STATIONS else 3000  # more than the legend has
        wanted = np.array([int(colour[n : n + 2], 16) for n in (1, 3, 5)])
        if (abs(pixels - wanted).max(axis=2) <= 2).sum() > fewest:
            found.add(name)
    return found
