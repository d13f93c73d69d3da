"""Files that a reader never meets half of, and files that are not trusted."""
