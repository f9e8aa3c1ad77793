"""Commands that publish messages of operators."""
