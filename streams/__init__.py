"""Events in, state out: from Kafka records to exact slices of counts in Redis."""
