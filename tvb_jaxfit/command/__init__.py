"""The command line: ``tvb-jaxfit fit``, ``certify`` and ``report``."""
