"""The command line: ``tvb-jaxfit fit``, ``certify``, ``parameters`` and ``report``."""
