"""Labels that rules read back from the text of a page."""

from hypothesis import given
from hypothesis import strategies as st

from exporters.metrics.exposition import label_text
from exporters.metrics.sample_sheet import parse_labels
from slo.alert_state import sample_key

# Texts that look like the end of a value, or like another label.
VALUES = st.text('a",=\\{}\n é', max_size=6) | st.sampled_from(['a",b="c', "\\", 'x="y'])
LABELS = st.dictionaries(st.sampled_from(["model", "region", "scope", "le"]), VALUES, max_size=4)


@given(LABELS)
def test_labels_are_read_as_they_were_written(labels: dict[str, str]) -> None:
    assert parse_labels(label_text(labels)) == sample_key(labels)
