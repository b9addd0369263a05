"""The catalogue that comes with the package, and an installation's own rows over it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvalidInput
from common.units import GIB, MIB
from scheduler.catalogue import load_catalogue
from scheduler.core.model.catalogue import DeviceSpec, PlacementRule, words

OURS = load_catalogue()


@pytest.mark.parametrize(
    ("vendor", "model", "name"),
    [
        ("nvidia", "A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("nvidia", "A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("nvidia", "A100-PCIE-40GB", "A100-PCIE-40GB"),
        ("nvidia", "A100 80GB PCIe", "A100-PCIE-80GB"),
        ("nvidia", "A800-SXM4-80GB", "A800-SXM4-80GB"),
        ("nvidia", "A800 80GB PCIe", "A800-PCIE-80GB"),
        ("nvidia", "H100 80GB HBM3", "H100-SXM"),
        ("nvidia", "H100 PCIe", "H100-PCIE"),
        ("nvidia", "H800", "H800-SXM"),
        ("nvidia", "H20", "H20"),
        ("nvidia", "H200", "H200-SXM"),
        ("nvidia", "H200 NVL", "H200-NVL"),
        ("nvidia", "B200", "B200"),
        ("nvidia", "GB200", "GB200"),
        ("nvidia", "L20", "L20"),
        ("nvidia", "L40S", "L40S"),
        ("nvidia", "A10", "A10"),
        ("nvidia", "Tesla T4", "T4"),
        ("nvidia", "Tesla V100-SXM2-16GB", "V100-SXM2"),
        ("nvidia", "Tesla V100-PCIE-32GB", "V100-PCIE"),
        ("nvidia", "GeForce RTX 4090", "RTX-4090"),
        ("nvidia", "GeForce RTX 4090 D", "RTX-4090"),
        ("nvidia", "GeForce RTX 5090", "RTX-5090"),
        ("nvidia", "RTX A1000", None),
        ("ascend", "910A", "910A"),
        ("ascend", "Ascend 910A", "910A"),
        ("ascend", "910B1", "910B1"),
        ("ascend", "910B2", "910B2"),
        ("ascend", "910B3", "910B3"),
        ("ascend", "910B4", "910B4"),
        ("ascend", "910B4-1", "910B4-1"),
        ("ascend", "Ascend910", "910C"),
        ("ascend", "Ascend910_9392", "910C"),
        ("ascend", "310P3", "310P3"),
        ("amd", "AMD Instinct MI210", "MI210"),
        ("amd", "AMD INSTINCT MI250X (MCM) OAM AC MBA", "MI250X"),
        ("amd", "MI300X", "MI300X"),
        ("amd", "AMD Instinct MI300X OAM", "MI300X"),
        ("amd", "AMD Instinct MI308X OAM", None),
        ("amd", "MI325X", "MI325X"),
        ("amd", "MI355X", "MI355X"),
        ("nvidia", "NVIDIA L4", "L4"),
        ("nvidia", "NVIDIA L40S", "L40S"),
        ("nvidia", "NVIDIA A30", "A30"),
        ("nvidia", "NVIDIA B300 SXM6 AC", "B300"),
        ("nvidia", "NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("cambricon", "MLU370-X8", "MLU370-X8"),
        ("hygon", "K100_AI", "K100-AI"),
        ("mthreads", "MTT S5000", "S5000"),
        ("metax", "MXC500", "C500"),
    ],
)
def test_each_model_is_found_by_what_its_driver_says(vendor: str, model: str, name: str | None) -> None:
    found = OURS.find(vendor, model)
    assert (found.name if found else None) == name


def test_no_two_rows_of_ours_claim_the_same_name() -> None:
    claims = [(spec.vendor, words(pattern)) for spec in OURS.specs for pattern in spec.patterns]
    assert len(claims) == len(set(claims))


def test_figures_are_dense_and_agree_with_each_other() -> None:
    for spec in OURS.specs:
        speed = dict(spec.tflops)
        assert speed.get("fp8", 0) <= 2.03 * speed.get("fp16", 0), spec.name
        assert speed.get("bf16", 0) <= speed.get("fp16", 0), spec.name
        known = {dtype for dtype in speed if dtype != "fp32"}
        assert not known or known <= spec.capabilities, spec.name
        assert spec.rule.island_size or spec.rule.island_rule == "any", spec.name
        assert all(count % spec.rule.pair_size == 0 or count == 1 for count in spec.rule.legal_counts)


def test_vendors_impose_their_rules() -> None:
    rules = {spec.name: spec.rule for spec in OURS.specs}
    assert rules["910A"] == PlacementRule((1, 2, 4, 8), 4, "inside", 1)
    assert rules["910B3"] == PlacementRule((), 8, "even", 1)
    assert rules["910C"] == PlacementRule((1, 2, 4, 6, 8, 10, 12, 14, 16), 16, "any", 2)


def test_kubernetes_names_are_the_vendors_unless_a_row_has_its_own() -> None:
    names = {spec.name: spec.kubernetes_resource for spec in OURS.specs}
    assert (names["910C"], names["310P3"]) == ("huawei.com/Ascend910", "huawei.com/Ascend310P")
    assert (names["T4"], names["MI300X"]) == ("nvidia.com/gpu", "amd.com/gpu")
    assert names["C500"] == "metax-tech.com/gpu"
    assert all(names.values())


def test_a_part_of_a_device_has_its_share() -> None:
    slice_ = OURS.find("nvidia", "H100 80GB HBM3 MIG 1g.10gb")
    assert slice_ is not None
    assert (slice_.name, slice_.memory_bytes) == ("H100-SXM MIG 1g.10gb", 10 * GIB)
    assert slice_.tflops_of("bf16") == pytest.approx(989 / 7)
    assert (slice_.rule.legal_counts, slice_.link) == ((1,), "")
    assert slice_.kubernetes_resource == "nvidia.com/mig-1g.10gb"
    compute = OURS.find("nvidia", "H100 80GB HBM3 MIG 2c.3g.40gb")
    assert compute is not None
    assert compute.tflops_of("bf16") == pytest.approx(989 * 2 / 7)
    eighth = OURS.find("amd", "MI300X CPX")
    assert eighth is not None
    assert (eighth.name, eighth.memory_bytes) == ("MI300X CPX", 196_592 * MIB // 8)
    assert eighth.tflops_of("fp8") == pytest.approx(2614 / 8)


def write(folder: Path, content: str) -> Path:
    path = folder / "own.yaml"
    path.write_text(content)
    return path


def test_an_installations_rows_win_key_by_key(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
ascend:
  910B3: {tflops: {bf16: 313}, watts: 350, rule: {islandRule: any}, priceMicrosPerHour: 1500000}
nvidia:
  H100-SXM: {memoryBytes: 64Gi, patterns: [H100]}
  X1: {tflops: {fp8: 10}}
""",
    )
    catalogue = load_catalogue(path)
    changed, before = catalogue.find("ascend", "910B3"), OURS.find("ascend", "910B3")
    assert changed is not None
    assert before is not None
    assert (changed.tflops_of("bf16"), changed.tflops_of("fp16")) == (313, 295)
    assert (changed.watts, changed.price_micros_per_hour) == (350, 1_500_000)
    assert changed.rule == PlacementRule((), 8, "any", 1)
    assert (changed.memory_bytes, changed.patterns) == (before.memory_bytes, before.patterns)
    claimed, new = catalogue.find("nvidia", "H100"), catalogue.find("nvidia", "x1")
    assert claimed is not None
    assert (claimed.name, claimed.memory_bytes) == ("H100-SXM", 64 * GIB)
    assert new is not None
    assert (new.name, new.tflops_of("fp8"), new.kubernetes_resource) == ("X1", 10, "nvidia.com/gpu")
    assert len(catalogue.specs) == len(OURS.specs) + 1


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load_catalogue(write(tmp_path, "")) == OURS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nvidia: {H100-SXM: {memoryBytes: lots}}", r"own\.yaml:nvidia\.H100-SXM\.memoryBytes.*byte qu"),
        ("nvidia: {X: {tflops: {fp16: -1}}}", r"own\.yaml:nvidia\.X\.tflops\.fp16"),
        ("nvidia: {X: {tflops: {half: 1}}}", r"own\.yaml:nvidia\.X\.tflops"),
        ("nvidia: {X: {color: red}}", r"own\.yaml:nvidia\.X\.color"),
        ("nvidia: {X: {patterns: ['--']}}", r"own\.yaml:nvidia\.X\.patterns\[0\].*letter or a digit"),
        ("ascend: {910A: {rule: {islandRule: ring}}}", r"own\.yaml:ascend\.910A\.rule\.islandRule"),
        ("ascend: {910A: {rule: {legalCounts: [0]}}}", r"own\.yaml:ascend\.910A\.rule\.legalCounts\[0\]"),
        ("ascend: {910A: 3}", r"own\.yaml: ascend\.910A must be a mapping"),
        ("ascend: [910A]", r"own\.yaml: ascend must map names of models to rows"),
        ("intel: {Max: {}}", r"own\.yaml: intel is no vendor; there are nvidia, ascend, amd"),
        ("[]", r"own\.yaml: must map vendors to rows"),
        ("{", r"own\.yaml: while parsing"),
    ],
)
def test_a_mistake_is_named_by_its_row_and_field(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_catalogue(write(tmp_path, content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"device catalogue .*none\.yaml: .*No such file"):
        load_catalogue(tmp_path / "none.yaml")


@given(st.data())
def test_a_row_is_found_by_each_of_its_patterns_whatever_the_case(data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(OURS.specs))
    pattern = data.draw(st.sampled_from(chosen.patterns))
    for model in (pattern, pattern.upper(), f"Maker {pattern} Board", pattern.replace("-", "_")):
        assert OURS.find(chosen.vendor, model) == chosen


def test_what_a_row_does_not_say_is_not_known(tmp_path: Path) -> None:
    found = load_catalogue(write(tmp_path, "nvidia: {X1: {}}")).find("nvidia", "X1")
    assert found == DeviceSpec("X1", "nvidia", ("X1",), kubernetes_resource="nvidia.com/gpu")
    assert found.rule == PlacementRule()
