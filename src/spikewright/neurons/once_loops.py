"""The compiled loop of once-firing neurons: one pass over the current where torch's operators need ten."""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

from numba import njit

__all__ = ["once"]


@njit(nogil=True, cache=True)
def once(current, v, fired, threshold, strict, out, start, stop):
    """u += I, a spike when u first exceeds (or, not strict, reaches) the threshold: neurons start .. stop of current
    [T, M]; v and fired [M] are the state, changed in place, out [T, M] receives the spikes."""
    limit, zero, one = v.dtype.type(threshold), v.dtype.type(0), v.dtype.type(1)
    u, done = v[start:stop], fired[start:stop]
    for t in range(len(current)):
        x, s = current[t, start:stop], out[t, start:stop]
        if strict:
            for i in range(len(u)):
                u[i] += x[i]
                over = one if u[i] > limit else zero
                s[i] = over * (one - done[i])
                done[i] = max(done[i], over)
        else:
            for i in range(len(u)):
                u[i] += x[i]
                over = one if u[i] >= limit else zero
                s[i] = over * (one - done[i])
                done[i] = max(done[i], over)
