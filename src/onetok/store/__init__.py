"""Storage of a study's results in git and DVC (publish, restore), and adoption of results made elsewhere."""
