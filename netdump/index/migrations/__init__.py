"""How an index of an earlier version becomes one of this. Alembic runs `env.py` and the files in `versions/`."""
