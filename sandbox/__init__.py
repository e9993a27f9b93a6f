"""Real servers for the demo, for `watershed up` and for the tests: each one folder, one log, one process id.

Invariant: a server that was started is stopped by the object that started it, by process id and never by name, and its
data is the folder: start(folder) after kill(folder) serves what was acknowledged before (the memory-only broker aside).
Everything listens on 127.0.0.1 or on a socket in its folder. Only watershed.py and the tests import this package.
"""
