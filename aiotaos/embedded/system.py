"""information_schema and performance_schema: the part of them that this server can answer."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import Precision
from .catalog import SYSTEM_DATABASES, Catalog, Database
from .columns import INT, SqlType, text
from .expressions import conjuncts
from .faults import unsupported
from .nodes import Binary, Expr, Literal, Name
from .running import COLUMNS as QUERY_COLUMNS
from .sql import Context, Scope, Visible

NAME = text(192)
DATABASE = text(64)
_TABLES: dict[str, tuple[tuple[str, SqlType], ...]] = {
    "ins_databases": (("name", DATABASE), ("precision", text(2))),
    "ins_tables": (
        ("table_name", NAME),
        ("db_name", DATABASE),
        ("columns", INT),
        ("stable_name", NAME),
        ("type", text(21)),
    ),
    "ins_stables": (
        ("stable_name", NAME),
        ("db_name", DATABASE),
        ("columns", INT),
        ("tags", INT),
    ),
}


def system_scope(
    context: Context, catalog: Catalog, database: str, name: str, shown: str | None
) -> Scope:
    """A system table with the columns that are known here."""
    if database == "information_schema" and name in _TABLES:
        columns, rows = _TABLES[name], _rows(catalog, name)
    elif name == "perf_queries" and database != "information_schema" and context.running:
        columns, rows = QUERY_COLUMNS, context.running()
    else:
        raise unsupported(f"{database}.{name}")
    alias = context.alias()
    quote = context.parameters.text
    values = [", ".join(_value(value, quote) for value in row) for row in rows]
    names = [f"s{index}" for index in range(len(columns))]
    casts = ", ".join(
        f"CAST({column} AS {type.duckdb}) AS {column}"
        for column, (_, type) in zip(names, columns, strict=True)
    )
    source = (
        f"(VALUES {', '.join(f'({value})' for value in values)})"
        if values
        else f"(SELECT {', '.join('NULL' for _ in names)} WHERE false)"
    )
    relation = f"(SELECT {casts} FROM {source} AS v({', '.join(names)})) AS {alias}"
    visible = [
        Visible(shown or name, column, f"{alias}.s{index}", type, "column")
        for index, (column, type) in enumerate(columns)
    ]
    return Scope(relation, visible, Precision.MILLISECOND, alias=alias, system=name)


def check_system(scope: Scope, where: Expr | None) -> None:
    """Refuse a query about all databases, whose answer would hold TDengine's own tables."""
    if scope.system in ("ins_databases", "perf_queries"):
        return
    for part in conjuncts(where):
        if (
            isinstance(part, Binary)
            and part.operator == "="
            and isinstance(part.left, Name)
            and part.left.name == "db_name"
            and isinstance(part.right, Literal)
        ):
            return
    raise unsupported(f"{scope.system} without db_name = '…'")


def _value(value: object, quote: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, int):
        return str(value)
    return quote(str(value)) if callable(quote) else ""


def _rows(catalog: Catalog, name: str) -> list[Sequence[object]]:
    databases = list(catalog.databases.values())
    if name == "ins_databases":
        system: list[Sequence[object]] = [(database, None) for database in SYSTEM_DATABASES]
        return [*system, *((d.name, d.precision.unit) for d in databases)]
    rows: list[Sequence[object]] = []
    for database in databases:
        rows += _tables(database) if name == "ins_tables" else _supers(database)
    return rows


def _tables(database: Database) -> list[Sequence[object]]:
    children: list[Sequence[object]] = [
        (name, database.name, len(table.columns), table.name, "CHILD_TABLE")
        for name, table in list(database.children.items())
    ]
    return children + [
        (table.name, database.name, len(table.columns), None, "NORMAL_TABLE")
        for table in list(database.normals.values())
    ]


def _supers(database: Database) -> list[Sequence[object]]:
    return [
        (table.name, database.name, len(table.columns), len(table.tags))
        for table in list(database.supers.values())
    ]
