"""Rejected records: where they are and why, and sending them again.

rejected(position) = the lake's below the visible cut  +  a look at the log from the cut to the position
"""
