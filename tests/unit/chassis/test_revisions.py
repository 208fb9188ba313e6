import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from chassis.postgres.revisions import newest_revision


@pytest.mark.parametrize("location", ["command_api:migrations", "projectors:migrations"])
def test_the_newest_revision_by_file_name_is_alembics_head(location: str) -> None:
    config = Config()
    config.set_main_option("script_location", location)

    assert newest_revision(location) == ScriptDirectory.from_config(config).get_current_head()
