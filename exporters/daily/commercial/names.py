"""Put the names of customers in place of their tokens.

Pure. The days are stored with tokens only, so names appear as late as the board is built.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from exporters.daily.day import text
from exporters.daily.day.facts import CacheMargin, GrowthRow, Risk
from exporters.reference.customers import Customer, Customers
from exporters.windows.incremental import CUSTOMER


class CustomerNames:
    """The names of the customers of the directory."""

    def __init__(self, customers: Mapping[str, Customer]) -> None:
        """`customers`: by token."""
        self.name_of = Customers(customers).name_of

    def margin(self, margin: CacheMargin | None) -> CacheMargin | None:
        """Return the margin of the cache with the customers' names."""
        if margin is None:
            return None
        rows = tuple(
            replace(row, name=text.customer_name(row.name, self.name_of))
            if row.dimension == CUSTOMER
            else row
            for row in margin.rows
        )
        return replace(margin, rows=rows)

    def growth(self, row: GrowthRow) -> GrowthRow:
        """Return the growth of a name; of a customer, under its name."""
        if row.dimension != CUSTOMER:
            return row
        return replace(row, name=text.customer_name(row.name, self.name_of))

    def risks(self, risks: Sequence[Risk]) -> tuple[Risk, ...]:
        """Return the risks with the customers' names in their scopes."""
        return tuple(
            replace(risk, scope=text.with_names(risk.scope, self.name_of)) for risk in risks
        )
