"""Recorded files and the events that a mapping makes of them."""

SIMPLE = """
format: csv
time: {column: at, kind: relative, unit: ms, base: 2025-01-01T00:00:00Z, marks: arrival}
fields:
  model: {constant: m}
  outcome: {constant: success}
  input_tokens: input
"""
BASE_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
