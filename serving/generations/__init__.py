"""A generation made (`watershed init`) and put in the place of another (`init --rebuild`)."""
