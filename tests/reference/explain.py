"""Runner-ups and changes of winners, literally: loops in float64, one position at a time."""

from __future__ import annotations

import math

from torch import Tensor


def runner_ups(z: Tensor, gradient: Tensor, competitors: int) -> dict[int, dict[str, object]]:
    """Return winner → its runner-up, share, response and change, by comparison of all units.

    Args:
        z, gradient: ``(units, positions)``.
        competitors: U.
    """
    z, gradient = z.double(), gradient.double()
    seen: dict[int, list[tuple[int, float, float]]] = {}
    for block in range(len(z) // competitors):
        units = range(block * competitors, (block + 1) * competitors)
        for p in range(z.shape[1]):
            ranked = sorted(units, key=lambda unit: (-float(z[unit, p]), unit))
            first, second = ranked[:2]
            gain = float(gradient[second, p] * z[second, p] - gradient[first, p] * z[first, p])
            seen.setdefault(first, []).append((second, float(z[second, p]), gain))
    found = {}
    for unit, rows in seen.items():
        times: dict[int, int] = {}
        for second, _, _ in rows:
            times[second] = times.get(second, 0) + 1
        most = max(times, key=lambda other: (times[other], -other))
        found[unit] = {
            "unit": most,
            "share": times[most] / len(rows),
            "response": math.fsum(value for second, value, _ in rows if second == most),
            "change": math.fsum(gain for _, _, gain in rows),
        }
    return found
