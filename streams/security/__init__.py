"""What Kafka and Redis clients log in with: certificates, passwords, tokens."""
