"""Tools that people use and look at: the command line now; pages, alerts and logs have their home here too.

Invariant: nothing is computed here. A command parses, calls and prints; what it calls returns values and never prints.
"""
