"""What is measured, with the command that measures it again; figures stand in docs/PERFORMANCE.md."""
