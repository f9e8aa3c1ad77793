"""Words and colours that Grafana shows instead of values. Pure."""

from dataclasses import dataclass

from grafana_foundation_sdk.models import dashboard


@dataclass(frozen=True, slots=True)
class Named:
    """Names for values: text and colour of single values, or of a range of values."""

    values: tuple[tuple[str, str, str], ...] = ()  # value, text, colour
    ranges: tuple[tuple[float | None, float | None, str, str], ...] = ()

    def mappings(self) -> list[dashboard.ValueMapping]:
        """Return them in Grafana's form."""
        found: list[dashboard.ValueMapping] = []
        if self.values:
            found.append(
                dashboard.ValueMap(
                    options={
                        value: dashboard.ValueMappingResult(text=said, color=color, index=at)
                        for at, (value, said, color) in enumerate(self.values)
                    }
                )
            )
        for at, (low, high, said, color) in enumerate(self.ranges, len(self.values)):
            result = dashboard.ValueMappingResult(text=said, color=color, index=at)
            found.append(
                dashboard.RangeMap(
                    options=dashboard.DashboardRangeMapOptions(low, high, result),
                )
            )
        return found


def unknown_value(text: str, colour: str) -> dashboard.SpecialValueMap:
    """Return text and colour of a value that is absent or not a number."""
    return dashboard.SpecialValueMap(
        options=dashboard.DashboardSpecialValueMapOptions(
            match=dashboard.SpecialValueMatch.NULL_AND_NAN,
            result=dashboard.ValueMappingResult(text=text, color=colour),
        )
    )
