"""Per-minute counts become attainment, error budgets, burn rates and credits."""
