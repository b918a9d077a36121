"""The Bento of a registered version: what it packs depends on the template of its commit."""

from pathlib import Path

import pytest
import yaml
from locks import PACKED, record
from my_experiment.harness.packaging import bento


@pytest.mark.usefixtures("workspace")
def test_a_commit_from_before_decisions_packs_none() -> None:
    lock = record()
    assert sorted(bento.packed_by(Path())) == PACKED
    outs = lock["stages"]["evaluate"]["outs"]
    outs[:] = [out for out in outs if out["path"] not in ("models/decision.json", "reports/metrics.json")]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    # Without its evaluation, the commit is incomplete: that is not passed over.
    assert sorted(bento.packed_by(Path())) == [name for name in PACKED if name != "models/decision.json"]
