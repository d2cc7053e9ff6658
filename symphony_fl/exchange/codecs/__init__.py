"""Values and indices as bytes.

codec.py             a value's coding by short name, 32 to 1 bits: floats.py, quantised.py
indices.py           ascending indices near their entropy; golomb.py
"""
