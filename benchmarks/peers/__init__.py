"""The peers: each module is a process of its own, `python -m benchmarks.peers.NAME BOOTSTRAP TOPIC EVENTS RESULT.csv [OPTION]`.

    result = groups of the valid events that are no duplicates, by key and minute: count, sum, min and max in hundredths

None commits anything. Each prints one line of JSON: the monotonic times of its first poll and of its last event.
"""
