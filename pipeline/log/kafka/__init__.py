"""The log on Kafka: clients, transport, and record batches as arrays."""
