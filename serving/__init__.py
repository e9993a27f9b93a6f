"""Postgres: the one arbiter of the hand-over, and the layer that answers.

    serving.<view>  =  batch(visible)  ⊕  Σ live segments  =  f(log[0, position))

Imports pipeline only; SQLAlchemy and psycopg2 are used nowhere else.
"""
