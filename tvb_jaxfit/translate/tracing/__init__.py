"""TVB's own methods as JAX functions: their Python code, traced on arrays that hold JAX arrays.

Modules, each of which imports only earlier ones:

- ``indexing``, ``branches``, ``dispatch``: indices and assignment, traced conditions, look-up of counterparts.
- ``mutable_array``: arrays with numpy's mutation and views.
- ``numpy_namespace``, ``scipy_namespace``, ``numexpr_namespace``, ``namespaces``: counterparts of library functions.
- ``gufunc``: numba's compiled functions.
- ``context``: counterparts of Python functions, and the proxy for ``self``.
- ``exact_calls``, ``untranslatable``, ``step_attributes``: derivatives, errors, and attributes set during a step.
- ``method``: `trace`, which runs a method's code.
"""
