"""Autoencoders and variational autoencoders, as the book *vaebook* explains, measures and verifies them.

The package is flat: a module for each idea, imported by name (``from vaebook import vae, objectives``).
Importing ``vaebook`` itself loads nothing else, so that the command line starts quickly.
"""

__version__ = "0.1.0"
