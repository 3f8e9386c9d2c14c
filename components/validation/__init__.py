"""Whether a data version may be used; the one place that knows Great Expectations."""
