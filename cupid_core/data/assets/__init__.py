"""Asset data sets in the published layout."""
