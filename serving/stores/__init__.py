"""The protocol's stores on Postgres (pipeline.handover, pipeline.replacement): each method composes functions of serving.ops."""
