"""From a run to the arrays of its figures, and one page of them."""
