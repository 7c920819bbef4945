"""Verdicts: written, read back, shown."""

from __future__ import annotations

import json

from llara_core.operations.decision import Check, Verdict, first_failed

CHECKS = (
    Check("primary", True, 0.57, 0.56, "nDCG@10 0.57 against 0.56"),
    Check("guard/scifact", False, -0.04, -0.01, "worse by 0.04 | 0.01 is allowed"),
    Check("latency", None, None, 20.0, "not measured"),
)
VERDICT = Verdict("refuse", "guard/scifact fails", CHECKS)


def test_a_verdict_survives_json():
    assert Verdict.of(json.loads(json.dumps(VERDICT.to_dict()))) == VERDICT


def test_the_weightiest_failure_comes_first():
    assert first_failed(CHECKS) is CHECKS[1]
    assert first_failed(CHECKS[:1]) is None


def test_a_table_shows_every_check():
    lines = VERDICT.markdown().splitlines()
    assert lines[0] == "**refuse**: guard/scifact fails"
    assert lines[4] == "| primary | holds | 0.57 | 0.56 | nDCG@10 0.57 against 0.56 |"
    assert lines[5] == "| guard/scifact | **fails** | -0.04 | -0.01 | worse by 0.04 \\| 0.01 is allowed |"
    assert lines[6] == "| latency | - |  | 20 | not measured |"
