"""`ducklake plan`: what a change of `ducklake.yml` will do, said before it is done."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from ducklake.cli.configuration import load_checked
from ducklake.projects.planning import plan


def show_plan(path: Path | None, as_json: bool) -> bool:
    """Print the plan; returns whether something will be done.

    Raises:
        ConfigError: The configuration is wrong.
        ServiceUnreachable: Kafka or Connect does not answer.
        BatchError: dbt cannot read its project.
        StackNotRunning: They are embedded, and the stack is not up.
    """
    config = load_checked(path)
    steps = plan(config, config.endpoints())
    if as_json:
        print(json.dumps({"steps": [asdict(step) for step in steps]}))
        return bool(steps)
    if not steps:
        print(f"{config.path.name} and the dbt project change nothing")
        return False
    for step in steps:
        print(f"{step.kind} {step.name} {step.what}")
    counts = Counter(step.kind for step in steps)
    told = ", ".join(
        f"{count} {kind if count == 1 else _plural(kind)}" for kind, count in counts.items()
    )
    print(f"{told}; `ducklake run` does this when it starts")
    return True


def _plural(kind: str) -> str:
    return kind if kind == "files" else f"{kind}s"
