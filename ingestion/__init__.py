"""The way in: samples of events, their profile, and the first module drafted from it; later origins, feeds and loads.

    sample -> profile -> draft        a draft is checked by the layers' own decoder before it is written

Imports serving and pipeline alone.
"""
