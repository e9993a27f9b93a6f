"""Work of operators: init and its mends, damage to the log, and the plan of what a night would do."""
