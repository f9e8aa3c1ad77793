"""Environment variables that look like settings and are none: typing errors that would be silent.

Pure. Only variables that resemble a setting are reported, as other programs may have some of the
same prefix.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

_SIMILAR = 0.85  # of 1; such as one letter of ten
# Kubernetes adds these to every container beside a service whose name begins with `tokenpulse`.
_OF_KUBERNETES = re.compile(r".*(_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?|_PORT_[0-9]+_[A-Z]+(_[A-Z]+)?)")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://.*")


def misspelt_variables(
    variables: Mapping[str, str], known: Iterable[str], prefix: str
) -> Iterator[str]:
    """Yield one line for each variable that resembles a setting.

    `known`: the variables of all settings and sections, in capitals. A variable below a known
    section is judged with the settings themselves.
    """
    names = sorted(known)
    plain = {name.replace("_", ""): name for name in names}
    for variable, value in sorted(variables.items()):
        name = variable.upper()
        if not name.startswith(prefix) or name in names:
            continue
        if _OF_KUBERNETES.fullmatch(name) or _SERVICE_URL.fullmatch(value):
            continue
        section, _, rest = name.removeprefix(prefix).partition("__")
        if rest and prefix + section in names:
            continue
        # One underscore in the place of two is the most frequent mistake.
        meant = plain.get(name.replace("_", ""))
        if meant is None:
            close = get_close_matches(name, names, 1, _SIMILAR)
            meant = close[0] if close else None
        if meant is not None:
            yield f"{variable}: no such setting; did you mean {meant}?"
        elif rest:
            yield f"{variable}: no such setting; docs/configuration.md lists them all"
