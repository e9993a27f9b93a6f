"""The lake: files, manifests, where things lie, and targets that know whether they are complete."""
