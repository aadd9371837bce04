"""The time loops. `reference` is the definition; a faster path is chosen here, by availability, and must equal it."""

from spikewright.kernels.reference import block_of, integrate_and_fire, low_pass, raised

__all__ = ["block_of", "integrate_and_fire", "low_pass", "raised"]
