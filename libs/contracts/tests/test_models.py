"""What a model's files may be called: their paths are made of it, on other machines too."""

import pytest
from hearth_contracts.models import ModelFile
from pydantic import ValidationError


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "onnx/a b+c.json"])
def test_names_of_files_in_a_folder(name: str) -> None:
    assert ModelFile(name=name, bytes=0, sha256="0" * 64).name == name


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", "./a", "a/", "a\0b"])
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    with pytest.raises(ValidationError):
        ModelFile(name=name, bytes=0, sha256="0" * 64)
