"""The exporter process: refresh in a thread, HTTP, logins."""
