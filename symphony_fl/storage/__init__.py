"""Folders and files: folders.py says where things lie and writes them atomically, private.py keeps them private."""
