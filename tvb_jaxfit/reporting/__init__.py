"""Tables and pages for people: parameters, summary of a fit, report, code that repeats a fit."""
