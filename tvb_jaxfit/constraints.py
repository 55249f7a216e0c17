"""Parameters that are kept to something beside bounds: positive, of one scale, free in part."""

import jax
import jax.numpy as jnp
import numpy as np

from .checks.arrays import real_array
from .parameters import BoundedParameter, Parameter
from .persistence import serialisable


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class PositiveParameter(Parameter):
    """A value to be fitted that stays positive and moves by factors: for time constants, gains, noise.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value, above 0.
    regional : bool, optional
        As for `Parameter`.

    Raises
    ------
    ValueError
        Where a start value is not above 0.

    Notes
    -----
    The optimiser moves log(x): a learning rate of 0.01 is 1 % a step, whatever the scale. A value that may come to 0 is
    a ``BoundedParameter(lower_bound=0)``, whose steps, but for the last ones, are of the value itself.

    Examples
    --------
    >>> from tvb_jaxfit import PositiveParameter
    >>> PositiveParameter(1e-6)
    PositiveParameter(1e-06)
    """

    def check(self):
        """Raise ValueError where a value is not above 0, or not finite."""
        if isinstance(self.value, jax.core.Tracer):
            return
        value = np.asarray(self.value)
        if not np.all(value > 0.0):
            raise ValueError(
                f"PositiveParameter: {np.sum(~(value > 0.0))} of {value.size} start values are not above 0 (found "
                f"{value.min():g}). Move the start, or give BoundedParameter(lower_bound=0)."
            )
        super().check()

    def to_unconstrained(self):
        """Logarithm of the value."""
        return jnp.log(self.value)

    def from_unconstrained(self, image):
        """Exponential of the image; never 0, even where it would round to it."""
        return jnp.maximum(jnp.exp(image), jnp.finfo(image.dtype).tiny)


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class ScaledParameter(Parameter):
    """A value to be fitted that the optimiser sees in units of its own size: one learning rate suits all of them.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value.
    regional : bool, optional
        As for `Parameter`.
    scale : float, optional
        What counts as 1; by default the largest start value (its size, not its sign).

    Raises
    ------
    ValueError
        Where the scale is not above 0, as of a start value of 0.

    Notes
    -----
    The optimiser moves x / scale. TVB-Optim's ``NormalizedParameter`` scales each entry by itself; here it is one scale
    for all, so that an entry that starts at 0 can move, too.

    Examples
    --------
    >>> from tvb_jaxfit import ScaledParameter
    >>> float(ScaledParameter(2e-6).to_unconstrained())
    1.0
    """

    def __init__(self, value=None, regional=False, scale=None):
        super().__init__(value, regional)
        self.scale = None if scale is None else _scale(scale)
        if self.scale is None and self.value is not None:
            self.scale = _scale(np.max(np.abs(self.value)))

    def with_value(self, value):
        """Copy with another value, the scale as it is; taken from this value where there is none."""
        new = super().with_value(value)
        if new.scale is None:
            new.scale = _scale(np.max(np.abs(value)))
        return new

    def to_unconstrained(self):
        """Value in units of the scale."""
        return self.value / self.scale

    def from_unconstrained(self, image):
        """Value of an image."""
        return image * self.scale

    def static_fields(self):
        return (self.regional, self.scale)

    def _take(self, regional, scale):
        super()._take(regional)
        self.scale = scale

    def _described(self):
        return super()._described() + ("" if self.scale is None else f", in units of {self.scale:g}")


def _scale(scale):
    scale = float(real_array(scale, "ScaledParameter: scale", shape=()))
    if not (np.isfinite(scale) and scale > 0.0):
        raise ValueError(f"ScaledParameter: a scale of {scale:g}; give one above 0, e.g. scale=0.1.")
    return scale


@serialisable
@jax.tree_util.register_pytree_with_keys_class
class MaskedParameter(BoundedParameter):
    """An array of which some entries are fitted, within bounds, and the others stay as they are.

    Parameters
    ----------
    value : array_like or Parameter, optional
        Start value.
    mask : array_like of bool, optional
        True where an entry is free; by default where the start value is not 0. For weights, these are the connections
        that there are.
    lower_bound, upper_bound : float, optional
        Of the free entries; either may be infinite.

    Raises
    ------
    ValueError
        Where the mask has another shape than the value, or frees nothing; or as `BoundedParameter`, for free entries.

    Notes
    -----
    The optimiser moves the free entries alone, as `BoundedParameter` does.

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

    def __init__(self, value=None, mask=None, lower_bound=-np.inf, upper_bound=np.inf):
        self._mask = None if mask is None else _packed(mask)
        super().__init__(None, lower_bound, upper_bound)
        value = value.value if isinstance(value, Parameter) else value
        if value is not None:
            self._put(jnp.asarray(real_array(value, "MaskedParameter: value"), jnp.result_type(float)))
            self.check()

    @property
    def mask(self):
        """True where an entry is free: ndarray of bool in the shape of the value; None where nothing says it yet."""
        if self._mask is None:
            return None
        shape, bits = self._mask
        return np.unpackbits(np.frombuffer(bits, np.uint8), count=int(np.prod(shape))).astype(bool).reshape(shape)

    @property
    def shape(self):
        """Shape of the value."""
        return None if self.value is None else self.value.shape

    @shape.setter
    def shape(self, shape):
        if self.value.size == 1 == int(np.prod(shape)):
            self.value, self._mask = self.value.reshape(shape), (tuple(shape), self._mask[1])
        elif tuple(shape) != self.shape:
            raise ValueError(
                f"MaskedParameter.shape: the mask is of shape {self.shape}, so it does not become {tuple(shape)}. "
                "Make a new one."
            )

    def with_value(self, value):
        """Copy with another value, the mask as it is; taken from this value where there is none."""
        new = super().with_value(None)
        new._put(value)
        return new

    def check(self):
        """Raise ValueError where a free entry lies outside the bounds, or a value is not finite."""
        BoundedParameter(self.value[self.mask], self.lower_bound, self.upper_bound)
        Parameter.check(self)

    def to_unconstrained(self):
        """Images of the free entries, shape (n_free,)."""
        return self._image_of(self.value[self.mask])

    def from_unconstrained(self, image):
        """Value with the free entries of an image."""
        # A single number has no axis to be indexed by.
        where = np.nonzero(np.atleast_1d(self.mask))
        value = jnp.atleast_1d(self.value).at[where].set(super().from_unconstrained(image))
        return jnp.reshape(value, self.shape)

    def _put(self, value):
        if self._mask is None:
            self._mask = _packed(np.asarray(value) != 0.0)
        if value.shape != self._mask[0]:
            raise ValueError(
                f"MaskedParameter: a mask of shape {self._mask[0]} for a value of {value.shape}; give equal ones."
            )
        self.value = value

    def static_fields(self):
        return (*super().static_fields(), self._mask)

    def _take(self, regional, lower_bound, upper_bound, mask=None):
        super()._take(regional, lower_bound, upper_bound)
        self._mask = self._mask if mask is None and hasattr(self, "_mask") else mask

    def _described(self):
        mask = self.mask
        return super()._described() + ("" if mask is None else f", {mask.sum()} of {mask.size} free")


def _packed(mask):
    """Mask in a form that can be part of a tree's structure: hashable."""
    if isinstance(mask, np.ma.MaskedArray) and np.ma.getmaskarray(mask).any():
        raise ValueError("MaskedParameter: the mask is itself a masked array; give plain booleans.")
    mask = np.asarray(mask)
    if mask.dtype != bool or not mask.any():
        found = "frees nothing" if mask.dtype == bool else f"is of {mask.dtype}"
        raise ValueError(f"MaskedParameter: the mask {found}; give booleans, True where an entry is free.")
    return mask.shape, np.packbits(mask).tobytes()
