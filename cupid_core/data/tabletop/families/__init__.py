"""All families of tabletop objects, by kind; each family is one function from draws to a shape in metres.

The registry and the list of families held out of training are in `cupid_core.data.tabletop.splits`.
"""
