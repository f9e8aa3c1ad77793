"""Policy files: objectives, scopes, indicators, targets and credits."""
