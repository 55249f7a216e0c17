"""The network of six regions of the tests of uncertainty."""

from tests.uncertainty.conftest import six

__all__ = ["six"]
