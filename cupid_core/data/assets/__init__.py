"""Asset data sets in the published layout; knows files, images and geometry, never how a network is trained."""
