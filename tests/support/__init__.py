"""What tests share: the system as processes, strategies, records of every type."""
