"""Text to SQL: text2sql.py is the skill, spider.py its dataset, tables.py and questions.py generate worlds."""
