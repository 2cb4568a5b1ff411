"""The examination of this installation, which runs these tests and therefore has to pass."""

from __future__ import annotations

from securefl import doctor


def test_this_installation_is_well() -> None:
    findings = doctor.examine()
    assert [f.name for f in findings if not f.ok] == []
    assert any("AVX" in f.seen or "torch" in f.seen for f in findings if f.name == "determinism")


def test_what_is_wrong_is_a_finding_and_not_a_crash() -> None:
    def broken() -> str:
        raise ImportError("torchvision::nms does not exist")

    finding = doctor._finding("torch and torchvision", broken)
    assert not finding.ok
    assert finding.seen == "ImportError: torchvision::nms does not exist"
