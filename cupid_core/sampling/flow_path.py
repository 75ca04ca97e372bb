"""The straight path between data and noise, and what of it follows from a velocity.

x_t = (1 - t) x0 + (s + (1 - s) t) e, with t = 0 the data and t = 1 the noise e; velocity v = (1 - s) e - x0.
Source: conditional flow matching (Lipman et al. 2023; CUPID, equation 1), with the small s of TRELLIS.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class FlowPath:
    """Conversions at one flow time; x_t, x0, e and v share one shape, t is a float or broadcastable to it.

    Attributes:
        sigma_min: s, the noise that is left at t = 0.
    """

    sigma_min: float = 1e-5

    def noise_level(self, t: Tensor | float) -> Tensor | float:
        """Weight of e in x_t."""
        return self.sigma_min + (1.0 - self.sigma_min) * t

    def interpolate(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """x_t between data and noise."""
        return (1.0 - t) * x0 + self.noise_level(t) * noise

    def velocity(self, x0: Tensor, noise: Tensor) -> Tensor:
        """v, the same at every t: what a flow network learns."""
        return (1.0 - self.sigma_min) * noise - x0

    def data_from_velocity(self, x_t: Tensor, t: Tensor | float, v: Tensor) -> Tensor:
        """x0 that this velocity points away from."""
        return (1.0 - self.sigma_min) * x_t - self.noise_level(t) * v

    def noise_from_velocity(self, x_t: Tensor, t: Tensor | float, v: Tensor) -> Tensor:
        """Noise e that this velocity points to."""
        return (1.0 - t) * v + x_t

    def data_from_noise(self, x_t: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
        """x0 from x_t and its noise; t = 1 has no answer (infinite)."""
        return (x_t - self.noise_level(t) * noise) / (1.0 - t)

    def noise_from_data(self, x_t: Tensor, t: Tensor | float, x0: Tensor) -> Tensor:
        """Noise e from x_t and its data."""
        return (x_t - (1.0 - t) * x0) / self.noise_level(t)
