"""Records in the wire format of Confluent's serialisers, and the schemas that they name."""
