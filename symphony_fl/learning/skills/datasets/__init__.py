"""Skills whose tasks are rows of a dataset.

rows.py              tasks out of rows; loaders.py, text_rows.py: published formats; sources.py: naming a dataset
prompt_answer.py     any rows with a prompt and an answer, by a chosen metric
gsm.py, multihop.py, openqa.py   GSM8K, HotpotQA, Natural Questions; world.py: made-up facts for proposed tasks
"""
