"""YAML of a few lines whose aliases stand for 9**13 values."""

from itertools import pairwise

_LEVELS = tuple(pairwise("abcdefghijklmn"))
LISTS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in _LEVELS
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n" for before, name in _LEVELS
)
