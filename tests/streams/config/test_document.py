"""The page of settings shows each default as a person writes it into the YAML file."""

import re

import yaml

from streams.config.base import Section
from streams.config.settings import Settings, document

ROW = re.compile(r"^\| `([\w.]+)` \| `(.+?)` \|", re.MULTILINE)


def test_each_shown_default_is_the_yaml_of_the_value_in_force() -> None:
    defaults, compared = Settings(), set()
    for part in document().split("\n## ")[1:]:
        section, _, rows = part.partition("\n")
        for name, text in ROW.findall(rows):
            value: object = getattr(defaults, section)
            for key in name.split("."):
                assert isinstance(value, Section)
                value = getattr(value, key)
            if isinstance(value, tuple | frozenset):
                value = list(value)
            assert yaml.safe_load(text) == value, f"{section}.{name}"
            compared.add(name)
    assert {"apart_tiers", "names_last_part", "ttft_targets_s", "limits.models"} <= compared
