"""Who the slides are: the slide sheet, and data sets that come with labels."""
