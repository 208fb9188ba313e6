"""Where downloads and other things that can be made again are kept, once per user."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "MUSTER_CACHE"


def cache_folder() -> Path:
    """Return the folder: `MUSTER_CACHE` where it is set, else the platform's cache folder of this user."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).absolute() if override else platformdirs.user_cache_path("muster", appauthor=False)


def shared_cache_folder() -> Path:
    """Return the platform's cache folder for all users, which root may write and anybody may read."""
    return platformdirs.site_cache_path("muster", appauthor=False)
