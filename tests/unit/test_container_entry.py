"""What a container's engine sees of a role's end."""

from __future__ import annotations

import pytest

from ducklake.cli import app, container
from ducklake.errors import DuckLakeError, ProducerFenced, SourceError


@pytest.mark.parametrize(
    ("error", "code"),
    [(ProducerFenced("Another one has taken over."), 0), (SourceError("No such file."), 1)],
)
def test_only_a_replaced_process_is_not_started_again(
    error: DuckLakeError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(SystemExit) as end:
        container.run()
    assert end.value.code == code
    said = capsys.readouterr().err
    assert error.what in said
    assert ("replaced" in said) == (code == 0)
