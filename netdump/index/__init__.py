"""What is known about dumps: records, the SQLite index that holds them, and the catalog of a collector's folder.

`record` and `reading` import neither SQLAlchemy nor Alembic: the analyst's side shares them.
"""
