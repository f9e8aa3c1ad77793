"""The `tokenpulse` command and the stack that runs on one machine."""
