"""`python -m speed_layer [--until-caught-up]` does what `watershed speed` does, errors included."""

import sys

from one_heap import one_heap

one_heap()

from pipeline.base.errors import WatershedError  # noqa: E402 -- it imports pyarrow
from speed_layer.signals import listen  # noqa: E402

if __name__ == "__main__":
    stop = listen()
    from speed_layer.run import main

    try:
        main("--until-caught-up" in sys.argv[1:], stop)
    except WatershedError as error:
        sys.stderr.write(f"watershed: {error.report()}\n")
        sys.exit(1)
