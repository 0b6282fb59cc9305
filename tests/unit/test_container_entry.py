"""What a container's engine sees of a role's end."""

from __future__ import annotations

import sys

import pytest

from ducklake.cli import container
from ducklake.exit_codes import FENCED


@pytest.mark.parametrize(("ended", "seen"), [(FENCED, 0), (1, 1), (0, 0)])
def test_only_a_replaced_process_is_not_started_again(
    ended: int, seen: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(container, "main", lambda: sys.exit(ended))
    with pytest.raises(SystemExit) as end:
        container.run()
    assert end.value.code == seen
    assert ("replaced" in capsys.readouterr().err) == (ended == FENCED)
