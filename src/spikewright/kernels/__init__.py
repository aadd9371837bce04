"""The time loops. `reference` is the definition; a faster path is chosen here, by availability alone, and must equal it."""

from spikewright.kernels.reference import integrate_and_fire, low_pass

__all__ = ["integrate_and_fire", "low_pass"]
