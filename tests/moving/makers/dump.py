"""Writes tables of a SQLite database as SQL text."""

import contextlib
import sqlite3
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def dump(database: str, tables: tuple[str, ...], maker: str, replaced: dict[str, str] | None = None) -> None:
    """Write these tables, with what is in them, to standard output. Paths of this machine get other names."""
    names = {**(replaced or {}), sys.prefix: "/venv", str(HERE): "/app"}
    sys.stdout.write(f"-- Made by tests/moving/makers/{maker}\n")
    with contextlib.closing(sqlite3.connect(database)) as connection:
        made = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'"))
        for table in filter(made.__contains__, tables):
            sys.stdout.write(f"{made[table]};\n")
            described = connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
            columns = ", ".join(f'"{column[1]}"' for column in described if not column[6])  # 6: it is computed
            for row in connection.execute(f"SELECT {columns} FROM {table}"):
                quoted = [connection.execute("SELECT quote(?)", (value,)).fetchone()[0] for value in row]
                line = f"INSERT INTO {table} ({columns}) VALUES ({','.join(quoted)});\n"
                for place, name in names.items():
                    line = line.replace(place, name)
                sys.stdout.write(line)
