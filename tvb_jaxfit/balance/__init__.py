"""Feedback inhibition control: balanced parameters, the iteration that they replace, and rates under noise."""
