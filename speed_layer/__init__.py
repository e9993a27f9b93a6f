"""The speed layer: always on, filling what the last batch leaves.

speed(view) = f(log[cut, position)),  knowing the identities below the cut
"""
