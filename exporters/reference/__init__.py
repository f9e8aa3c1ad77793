"""Files of the operator: customers and prices."""
