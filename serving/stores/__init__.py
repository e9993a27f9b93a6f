"""The protocol's stores on Postgres (pipeline.handover, pipeline.handover.replacement): each method composes functions of serving.ops."""
