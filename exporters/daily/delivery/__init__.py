"""The daily board by mail and to Slack."""
