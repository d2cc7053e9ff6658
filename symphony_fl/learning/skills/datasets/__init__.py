"""Skills whose tasks are rows of a dataset.

rows.py              tasks out of rows; loaders.py, text_rows.py: published formats; sources.py: naming a dataset
gsm.py, multihop.py, openqa.py   GSM8K, HotpotQA, Natural Questions; world.py: made-up facts for proposed tasks
"""
