"""`python -m speed_layer [--until-caught-up]` does what `watershed speed` does, errors included."""

import sys

from pipeline.errors import WatershedError
from speed_layer.signals import listen

if __name__ == "__main__":
    stop = listen()
    from speed_layer.run import main

    try:
        main("--until-caught-up" in sys.argv[1:], stop)
    except WatershedError as error:
        sys.stderr.write(f"watershed: {error}\n")
        sys.exit(1)
