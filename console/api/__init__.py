"""The HTTP API that `watershed serve` gives: one router a file, and an app that is made of its parts.

app = make_app(parts)        whatever is refused is JSON: {"error": what and why[, "repair": the next command]}
"""
