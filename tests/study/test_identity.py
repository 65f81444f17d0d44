"""Which studies are the same."""

import shutil

import pytest

from recbole_recfound.study.identity import study_folder


def test_another_backbone_of_the_same_name_is_another_study(tiny_path, tiny_backbone, tmp_path):
    backbone = tmp_path / "backbone"
    shutil.copytree(tiny_backbone, backbone)
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "backbone": str(backbone)}
    found = []
    for changed in (False, False, True):
        if changed:
            weights = next(backbone.glob("*.safetensors"))
            content = bytearray(weights.read_bytes())
            content[-1] ^= 1
            weights.write_bytes(content)
        with study_folder("seeds", "M6Rec", "tiny", settings) as folder:
            found.append(folder.path)
    assert found[0] == found[1] != found[2]


def test_a_backbone_that_no_model_reads_is_not_looked_for(tiny_path, tmp_path):
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path), "backbone": "/no/such/backbone"}
    with study_folder("seeds", "BPR", "tiny", settings) as folder:
        assert folder.path.is_dir()


@pytest.mark.parametrize(
    "changes",
    [
        {"show_progress": False},
        {"gpu_id": "1"},
        {"device": "cpu"},
        {"resume": "auto"},
        {"trust_checkpoint": True},
        {"output_dir": "runs"},
        {"output_dir": "elsewhere"},
        {"data_path": "copy"},
        {"task_files": ["records.jsonl"]},
        {"late_args": {"targets": 8, "cache_file": "states"}},
    ],
    ids=str,
)
def test_circumstances_make_no_other_study(tiny_path, tmp_path, changes):
    shutil.copytree(tiny_path, "copy")
    (tmp_path / "records.jsonl").write_text("{}")
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "late_args": {"targets": 8}}
    settings["task_files"] = {"train": [str(tmp_path / "records.jsonl")]}
    names = set()
    for own in (settings, settings | changes):
        with study_folder("seeds", "BPR", "tiny", own) as folder:
            names.add(folder.path.name)
    assert len(names) == 1


@pytest.mark.parametrize(
    ("model", "settings", "file"),
    [
        ("S3Rec", {"pre_model_path": "weights.pth"}, "weights.pth"),
        ("IAK", {"base_model": "S3Rec", "base_args": {"pre_model_path": "weights.pth"}}, "weights.pth"),
        ("BPR", {"baselines": ["NAIS"], "baseline_args": {"NAIS": {"pretrain_path": "weights.pth"}}}, "weights.pth"),
        ("RecFound", {"test_args": {"bert_score_model": "scorer"}}, "scorer/model.bin"),
        ("LDiffRec", {"n_cate": 2}, "data/tiny/item_emb.npy"),
        ("BPR", {"baselines": ["LDiffRec"], "baseline_args": {"LDiffRec": {"n_cate": 2}}}, "data/tiny/item_emb.npy"),
        ("IAK", {"base_model": "LDiffRec"}, "data/tiny/item_emb.npy"),
    ],
    ids=str,
)
def test_other_content_of_a_file_that_a_model_reads_is_another_study(tiny_path, tmp_path, model, settings, file):
    shutil.copytree(tiny_path, tmp_path / "data")
    (tmp_path / "scorer").mkdir()
    found = []
    for content in ("one", "one", "another"):
        (tmp_path / file).write_text(content)
        with study_folder("tune", model, "tiny", settings | {"data_path": "data"}) as folder:
            found.append(folder.path)
    assert found[0] == found[1] != found[2]
