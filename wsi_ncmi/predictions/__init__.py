"""Where the two branches meet: records of runs, and anyone's predictions."""
