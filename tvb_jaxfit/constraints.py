"""Parameters with other constraints than bounds: positive values, values in units of a scale, arrays fitted in part."""

from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from .checks.arrays import real_array
from .parameters import BoundedParameter, Parameter
from .persistence import serialisable


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class PositiveParameter(Parameter):
    """A value to fit that stays positive and changes by factors: for time constants, gains, noise.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value, above 0.
    regional : bool, optional
        As for `Parameter`.

    Raises
    ------
    ValueError
        A start value is not above 0.

    Notes
    -----
    The optimiser changes log(x): a learning rate of 0.01 is 1 % a step, whatever the scale of the value. For a value
    that may reach 0 use ``BoundedParameter(lower_bound=0)``; its steps are of the value itself, except close to 0.

    Examples
    --------
    >>> from tvb_jaxfit import PositiveParameter
    >>> PositiveParameter(1e-6)
    PositiveParameter(1e-06)
    """

    def check(self) -> None:
        """Raise ValueError if a value is not above 0, or not finite."""
        if isinstance(self.value, jax.core.Tracer):
            return
        value = np.asarray(self.value)
        if not np.all(value > 0.0):
            raise ValueError(
                f"PositiveParameter: {np.sum(~(value > 0.0))} of {value.size} start values are not above 0 (found "
                f"{value.min():g}). Move the start, or give BoundedParameter(lower_bound=0)."
            )
        super().check()

    def to_unconstrained(self) -> jax.Array:
        """Logarithm of the value."""
        return jnp.log(self.value)

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Exponential; never 0, also where it would underflow."""
        return jnp.maximum(jnp.exp(unconstrained), jnp.finfo(unconstrained.dtype).tiny)


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class ScaledParameter(Parameter):
    """A value to fit that the optimiser changes in units of its own size, so that one learning rate suits all values.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value.
    regional : bool, optional
        As for `Parameter`.
    scale : float, optional
        The unit; by default the largest absolute start value.

    Raises
    ------
    ValueError
        The scale is not above 0, such as that of a start value of 0.

    Notes
    -----
    The optimiser changes x / scale. TVB-Optim's ``NormalizedParameter`` scales each entry by itself. Here all entries
    have one scale, so that an entry that starts at 0 can change, too.

    Examples
    --------
    >>> from tvb_jaxfit import ScaledParameter
    >>> float(ScaledParameter(2e-6).to_unconstrained())
    1.0
    """

    def __init__(self, value: ArrayLike | Parameter | None = None, regional: bool = False, scale: float | None = None):
        super().__init__(value, regional)
        self.scale = None if scale is None else _checked_scale(scale)
        if self.scale is None and self.value is not None:
            self.scale = _checked_scale(np.max(np.abs(self.value)))

    def with_value(self, value: jax.Array) -> Self:
        """Copy with another value and the same scale; without a scale, that of the new value."""
        new = super().with_value(value)
        if new.scale is None:
            new.scale = _checked_scale(np.max(np.abs(value)))
        return new

    def to_unconstrained(self) -> jax.Array:
        """Value in units of the scale."""
        return self.value / self.scale

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Value in physical units."""
        return unconstrained * self.scale

    def static_fields(self) -> tuple:
        """Fields beside the value: regional, and the scale."""
        return (self.regional, self.scale)

    def _set_static_fields(self, regional, scale):
        super()._set_static_fields(regional)
        self.scale = scale

    def _description(self):
        return super()._description() + ("" if self.scale is None else f", in units of {self.scale:g}")


def _checked_scale(scale):
    scale = float(real_array(scale, "ScaledParameter: scale", shape=()))
    if not (np.isfinite(scale) and scale > 0.0):
        raise ValueError(f"ScaledParameter: a scale of {scale:g}; give one above 0, e.g. scale=0.1.")
    return scale


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class MaskedParameter(BoundedParameter):
    """An array of which some entries are fitted, within bounds, and the others stay constant.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value.
    mask : array_like of bool, optional
        True where an entry is free; by default where the start value is not 0. For weights, these are the existing
        connections.
    lower_bound, upper_bound : float, optional
        Bounds of the free entries; either may be infinite.

    Raises
    ------
    ValueError
        The mask has another shape than the value, or no free entry. For the free entries, as `BoundedParameter`.

    Notes
    -----
    The optimiser changes the free entries alone, as for `BoundedParameter`.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import MaskedParameter
    >>> weights = MaskedParameter(np.array([[0.0, 1.0], [0.5, 0.0]]), lower_bound=0.0)
    >>> weights
    MaskedParameter(0 .. 0.25 .. 1, shape (2, 2), in [0, inf], 2 of 4 free)
    >>> weights.to_unconstrained().shape
    (2,)
    """

    def __init__(
        self,
        value: ArrayLike | Parameter | None = None,
        mask: ArrayLike | None = None,
        lower_bound: float = -np.inf,
        upper_bound: float = np.inf,
    ):
        self._packed_mask = None if mask is None else _packed(mask)
        super().__init__(None, lower_bound, upper_bound)
        value = value.value if isinstance(value, Parameter) else value
        if value is not None:
            self._set_value(jnp.asarray(real_array(value, "MaskedParameter: value"), jnp.result_type(float)))
            self.check()

    @property
    def mask(self) -> np.ndarray | None:
        """True where an entry is free: ndarray of bool in the shape of the value. None without a mask and a value."""
        if self._packed_mask is None:
            return None
        shape, bits = self._packed_mask
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=int(np.prod(shape))).astype(bool).reshape(shape)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the value; None without a value."""
        return None if self.value is None else self.value.shape

    @shape.setter
    def shape(self, shape):
        if self.value.size == 1 == int(np.prod(shape)):
            self.value, self._packed_mask = self.value.reshape(shape), (tuple(shape), self._packed_mask[1])
        elif tuple(shape) != self.shape:
            raise ValueError(
                f"MaskedParameter.shape: the mask is of shape {self.shape}, so it does not become {tuple(shape)}. "
                "Make a new one."
            )

    def with_value(self, value: jax.Array) -> Self:
        """Copy with another value and the same mask; without a mask, that of the new value."""
        new = super().with_value(None)
        new._set_value(value)
        return new

    def check(self) -> None:
        """Raise ValueError if a free entry lies outside the bounds, or a value is not finite."""
        BoundedParameter(self.value[self.mask], self.lower_bound, self.upper_bound)
        Parameter.check(self)

    def to_unconstrained(self) -> jax.Array:
        """Unconstrained values of the free entries, shape (n_free,)."""
        return self._to_unconstrained(self.value[self.mask])

    def from_unconstrained(self, unconstrained: jax.Array) -> jax.Array:
        """Value in physical units: the free entries from unconstrained ones, the others as they are."""
        # A single number has no axis to be indexed by.
        free = np.nonzero(np.atleast_1d(self.mask))
        value = jnp.atleast_1d(self.value).at[free].set(super().from_unconstrained(unconstrained))
        return jnp.reshape(value, self.shape)

    def _set_value(self, value):
        if self._packed_mask is None:
            self._packed_mask = _packed(np.asarray(value) != 0.0)
        shape, _ = self._packed_mask
        if value.shape != shape:
            raise ValueError(f"MaskedParameter: a mask of shape {shape} for a value of {value.shape}; give equal ones.")
        self.value = value

    def static_fields(self) -> tuple:
        """Fields beside the value: regional, the bounds, and the mask."""
        return (*super().static_fields(), self._packed_mask)

    def _set_static_fields(self, regional, lower_bound, upper_bound, packed_mask=None):
        super()._set_static_fields(regional, lower_bound, upper_bound)
        has_mask = packed_mask is None and hasattr(self, "_packed_mask")
        self._packed_mask = self._packed_mask if has_mask else packed_mask

    def _description(self):
        mask = self.mask
        return super()._description() + ("" if mask is None else f", {mask.sum()} of {mask.size} free")


def _packed(mask):
    """(shape, bits) of a mask: hashable, so that it can be part of a tree's structure."""
    if isinstance(mask, np.ma.MaskedArray) and np.ma.getmaskarray(mask).any():
        raise ValueError("MaskedParameter: the mask is itself a masked array; give plain booleans.")
    mask = np.asarray(mask)
    if mask.dtype != bool or not mask.any():
        found = "frees nothing" if mask.dtype == bool else f"is of {mask.dtype}"
        raise ValueError(f"MaskedParameter: the mask {found}; give booleans, True where an entry is free.")
    return mask.shape, np.packbits(mask).tobytes()
