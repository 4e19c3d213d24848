"""What a change of a policy comes to, told at the highest paths."""

from __future__ import annotations

from typing import Any

import pytest

from skerry_policies.effective import EffectivePolicy, own
from skerry_policies.explain import simulate


def policy(**resources: tuple[str, str]) -> EffectivePolicy:
    """x:y has the permissions that are granted and revoked, on `thing:/` (t) and what lies below it (t_a_b)."""
    rights: dict[str, Any] = {
        f"thing:/{'/'.join(name.split('_')[1:])}": {"grant": grant.split(), "revoke": revoke.split()}
        for name, (grant, revoke) in resources.items()
    }
    document = {"policyId": "a:p", "entries": {"e": {"subjects": {"x:y": {"type": "t"}}, "resources": rights}}}
    return EffectivePolicy("a:p", tuple(own("a:p", document)), {"a:p": document})


ALL, NO = ("READ", ""), ("", "READ")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (policy(t=ALL), policy(t=ALL), []),
        (policy(t=ALL), policy(t=ALL, t_a=ALL), []),
        (policy(t=ALL), policy(), ["- thing:/"]),
        (policy(), policy(t_a=ALL), ["+ thing:/a"]),
        (policy(t=ALL), policy(t_a=ALL), ["- thing:/ except thing:/a"]),
        (policy(t=ALL), policy(t_a=ALL, t_a_b=NO), ["- thing:/ except thing:/a", "- thing:/a/b"]),
        (policy(t=ALL, t_a=NO), policy(t_a=ALL), ["- thing:/", "+ thing:/a"]),
        (policy(t=ALL, t_a=NO), policy(t_b=ALL), ["- thing:/ except thing:/a thing:/b"]),
        (policy(t_a_b=ALL), policy(t=ALL), ["+ thing:/ except thing:/a/b"]),
    ],
)
def test_a_change_is_told_at_the_highest_paths_with_what_stays(
    before: EffectivePolicy, after: EffectivePolicy, told: list[str]
):
    shown = [
        f"{'+' if change.effect == 'gained' else '-'} {change.resource}"
        + (f" except {' '.join(change.besides)}" if change.besides else "")
        for change in simulate(before, after)
    ]
    assert shown == told
