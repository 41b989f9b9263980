"""What the experiment `robustness` is made of: its arms, attacks, checks and figures."""
