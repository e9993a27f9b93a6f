"""Postgres itself, whatever is kept in it: connections and transactions, COPY, quoting, views. Nothing here knows the protocol."""
