"""The page's words in English and Spanish."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "es")
_TEXTS: Mapping[str, tuple[str, str]] = {
    "trust": ("Trust", "Confianza"),
    "flow": ("Flow", "Flujo"),
    "shop": ("Shop", "Tienda"),
    "tables": ("Tables", "Tablas"),
    "runs": ("Runs", "Ciclos"),
    "dead_letters": ("Dead letters", "Mensajes fallidos"),
    "all_good": ("The data can be trusted", "Los datos son confiables"),
    "not_sure": ("Nobody can say for all tables", "No se puede afirmar para todas las tablas"),
    "with_warnings": ("Usable, with warnings", "Utilizables, con advertencias"),
    "not_trusted": ("Do not trust everything", "No todo es confiable"),
    "good": ("good", "bien"),
    "unknown": ("unknown", "sin dato"),
    "warning": ("warning", "advertencia"),
    "critical": ("critical", "crítico"),
    "fresh": ("Fresh", "Al día"),
    "complete": ("Complete", "Completa"),
    "tested": ("Tested", "Probada"),
    "table": ("Table", "Tabla"),
    "model": ("Model", "Modelo"),
    "models": ("Models", "Modelos"),
    "as_of": ("Data as of", "Datos a las"),
    "source_rows": ("Rows at source", "Filas en origen"),
    "lake_rows": ("In the lake", "En el lago"),
    "compared": ("Compared", "Comparada"),
    "never": ("never", "nunca"),
    "problems": ("What has stopped, and how to go on", "Qué se detuvo y cómo seguir"),
    "held_back": ("Held back", "Retenido"),
    "held_back_note": (
        "Readers keep the last state that passed its tests.",
        "Se sigue mostrando el último estado que pasó sus pruebas.",
    ),
    "latency": ("95 % within", "95 % en"),
    "topic": ("Kafka", "Kafka"),
    "raw": ("Raw", "Raw"),
    "staging": ("Staging", "Staging"),
    "consume": ("Consume", "Consume"),
    "postgres": ("PostgreSQL", "PostgreSQL"),
    "rows": ("Rows", "Filas"),
    "rate": ("Rows per minute, last hour", "Filas por minuto, última hora"),
    "lag": ("Behind Kafka", "Atraso de Kafka"),
    "waiting": ("Waiting", "En espera"),
    "state": ("State", "Estado"),
    "idle": ("idle", "sin novedades"),
    "arriving": ("arriving", "llegando"),
    "stalled": ("stalled", "atascada"),
    "stopped": ("stopped", "detenida"),
    "current": ("current", "al día"),
    "offsets": ("offsets", "offsets"),
    "roles": ("Processes", "Procesos"),
    "no_roles": (
        "Nothing runs. Start it: ducklake run",
        "Nada está en marcha. Para iniciar: ducklake run",
    ),
    "live_figures": ("Right now", "En este momento"),
    "live_stale": ("not live: nobody counts", "sin actualizar: nadie cuenta"),
    "live_waiting": (
        "No live figures yet. `ducklake run` counts them, or `ducklake live` alone.",
        "Aún no hay cifras en vivo. Las cuenta `ducklake run`, o solo `ducklake live`.",
    ),
    "cancelled": ("Cancelled", "Cancelados"),
    "late": ("late", "tardíos"),
    "today": ("Today so far", "Hoy hasta ahora"),
    "yesterday": ("yesterday at this hour", "ayer a esta hora"),
    "last_week": ("a week ago", "hace una semana"),
    "orders": ("Orders", "Pedidos"),
    "revenue": ("Revenue", "Ventas"),
    "ticket": ("Average ticket", "Ticket promedio"),
    "per_day": ("Revenue per day", "Ventas por día"),
    "per_hour": ("Orders by hour: today and yesterday", "Pedidos por hora: hoy y ayer"),
    "categories": ("Categories", "Categorías"),
    "category": ("Category", "Categoría"),
    "every_category": ("All categories", "Todas las categorías"),
    "top_products": ("Top products", "Más vendidos"),
    "segments": ("Customers by segment", "Clientes por segmento"),
    "customers": ("Customers", "Clientes"),
    "reorder": ("Stock to reorder", "Stock para reponer"),
    "units": ("Units", "Unidades"),
    "cover": ("Days left", "Días que alcanza"),
    "targets": ("Targets of the month", "Objetivos del mes"),
    "reached": ("Reached", "Alcanzado"),
    "tickets": ("Support tickets", "Tickets de soporte"),
    "open": ("open", "abiertos"),
    "mark": ("Mark", "Nota"),
    "holidays": ("Next holidays", "Próximos feriados"),
    "from": ("From", "Desde"),
    "to": ("To", "Hasta"),
    "apply": ("Apply", "Aplicar"),
    "no_shop": (
        "The published models are not those of a shop, or nothing is published yet.",
        "Los modelos publicados no son de una tienda, o aún no hay nada publicado.",
    ),
    "files": ("Files", "Archivos"),
    "hot": ("hot", "recientes"),
    "sealed": ("sealed", "sellados"),
    "size": ("Size", "Tamaño"),
    "columns": ("Columns", "Columnas"),
    "partitions": ("Partitions by day", "Particiones por día"),
    "commits": ("Last commits", "Últimos commits"),
    "history": ("History of its definition", "Historia de su definición"),
    "no_history": ("No change is known.", "No se conoce ningún cambio."),
    "read_by": ("Read by", "La leen"),
    "lineage": ("Reads", "Lee"),
    "lineage_title": ("Models and lineage", "Modelos y linaje"),
    "exposures": ("Read outside the project", "Quién los lee fuera del proyecto"),
    "not_described": ("The project does not describe it.", "El proyecto no lo describe."),
    "key": ("Key", "Clave"),
    "unchanged": ("columns unchanged", "columnas sin cambios"),
    "sql": ("Ask the published data", "Consultar los datos publicados"),
    "sql_note": (
        "One SELECT, read-only: at most 10 s, 500 rows here and 100,000 in a download.",
        "Un SELECT, solo lectura: hasta 10 s, 500 filas aquí y 100.000 al descargar.",
    ),
    "run": ("Run", "Ejecutar"),
    "cycles": ("Cycles", "Ciclos"),
    "cycles_note": (
        "Duration of the last cycles by step; a mark above a bar: a model or test failed.",
        "Duración de los últimos ciclos por paso; una marca sobre la barra: algo falló.",
    ),
    "failing": ("Failing tests", "Pruebas que fallan"),
    "none_failing": (
        "All data tests passed when they last ran.",
        "Todas las pruebas pasaron la última vez.",
    ),
    "query": ("Query", "Consulta"),
    "duration": ("Duration", "Duración"),
    "started": ("Started", "Inicio"),
    "tests": ("Tests", "Pruebas"),
    "failed": ("Failed", "Fallaron"),
    "built": ("Built", "Construidos"),
    "no_dead": ("There are no dead letters.", "No hay mensajes fallidos."),
    "address": ("Address", "Dirección"),
    "time": ("Time", "Hora"),
    "bytes": ("Bytes", "Bytes"),
    "reason": ("Reason", "Motivo"),
    "count": ("Count", "Cantidad"),
    "content": ("Content", "Contenido"),
    "headers": ("Provenance", "Procedencia"),
    "inspect": ("Inspect", "Ver"),
    "try": ("Dry run", "Simular"),
    "redrive": ("Redrive", "Reprocesar"),
    "sign_in": ("Sign in", "Ingresar"),
    "token": ("Token", "Token"),
    "sign_in_note": (
        "The page needs the token. `ducklake dashboard` prints where it is.",
        "La página necesita el token. `ducklake dashboard` indica dónde está.",
    ),
    "live": ("live", "en vivo"),
    "offline": ("no connection", "sin conexión"),
    "theme": ("Theme", "Tema"),
    "skip": ("Skip to content", "Ir al contenido"),
    "back": ("Back", "Volver"),
    "nothing": ("Nothing here yet.", "Todavía no hay nada."),
    "dropped": ("Only counted", "Solo contados"),
}


def texts(language: str) -> Mapping[str, str]:
    """All words of a language by their key."""
    at = LANGUAGES.index(language) if language in LANGUAGES else 0
    return {key: words[at] for key, words in _TEXTS.items()}


def language_of(wanted: str | None, accepted: str) -> str:
    """The language of a reader: a choice, or what the browser prefers.

    Args:
        wanted: What was chosen, if anything.
        accepted: The header Accept-Language.
    """
    if wanted in LANGUAGES:
        return wanted or "en"
    for part in accepted.split(","):
        name = part.strip()[:2].lower()
        if name in LANGUAGES:
            return name
    return "en"
