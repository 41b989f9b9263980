"""Many models of one aggregator trained in one pass; `fit.fit(group)` is the way in."""
