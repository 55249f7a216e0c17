"""Names of the files of a fit's results. This module imports neither JAX nor NumPy."""

# Kind of the file of the summary, as `persistence.serialise.read` expects it.
KIND = "summary of a fit"
SUMMARY, PAGE = "fit.npz", "report.html"
# Files of `result_files`, by name.
FILES = ("values.json", "values.npz", "fc.npy", "history.csv", SUMMARY)
