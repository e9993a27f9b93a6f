"""Schema ops, a file per table or two that go together: its SQL, once, as functions on a connection. A transaction is whoever calls."""
