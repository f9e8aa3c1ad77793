"""Every metric is declared once, here."""
