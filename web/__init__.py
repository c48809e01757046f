"""The page: classify, watch, compare, label."""
