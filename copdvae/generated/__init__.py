"""Image sets drawn here, with every factor known: `blobs` (paper B), `sprites` in dSprites' grid, `scenes` in 3D Shapes' grid.

They are not the official files and their pixels differ from those; results on them must say so. Any rows of a set can be drawn
without the others: an image is a function of its row.
"""
