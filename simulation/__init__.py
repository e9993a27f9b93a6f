"""The deterministic simulation: the shipped worker and the shipped night on a log, an arbiter and a lake in memory.

    schedule(seed) is a function of the seed alone;  after every transaction:  merged answer = recompute of the log up to position

The loop that renews a worker's leases is the shipped one too, an actor beside the worker's own. A worker's clock is drawn: what it believes
to be the time has nothing to do with the arbiter's, and may not matter. Only one actor runs at a time. It is handed a baton, and gives it
back between any two calls of store, log or lake, where the scheduler may crash it, lose its reply, delay its transaction, or let others run
for as long as a lease lasts and longer.
"""
