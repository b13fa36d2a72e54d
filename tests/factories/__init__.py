"""Small models, studies and results that tests share."""
