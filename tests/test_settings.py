"settings.ini, which tools of nbdev 2 look for, says nothing that pyproject.toml does not."

from configparser import ConfigParser
from pathlib import Path

from nbdev.config import get_config

ROOT = Path(__file__).resolve().parent.parent


def test_settings_agree():
    ini, cfg = ConfigParser(), get_config(ROOT)
    ini.read(ROOT / "settings.ini")
    folders = {k: cfg.get(k).name for k in ("lib_path", "nbs_path", "doc_path")}
    assert dict(ini["DEFAULT"]) == {"lib_name": cfg.lib_name, **folders}
