"""The public status page: components, ninety days of uptime, incidents written by operators."""
