"""Which studies are the same."""

import shutil

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
