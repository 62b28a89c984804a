"""Public data and people's captions.

Enters: addresses of data sets and models, archives, caption files of any shape. Leaves: checked
files on this machine, `Captions`, and a drawn, captioned sample collection.
"""
