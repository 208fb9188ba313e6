"""The folder for downloads and whatever else can be made again, one for each user."""

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "MUSTER_CACHE"


def cache_folder() -> Path:
    """Return `MUSTER_CACHE` where it is set, else this user's cache folder of the platform."""
    override = os.environ.get(CACHE_VARIABLE)
    return Path(override).absolute() if override else platformdirs.user_cache_path("muster", appauthor=False)


def shared_cache_folder() -> Path:
    """Return the platform's cache folder for all users: root may write there, and anybody may read."""
    return platformdirs.site_cache_path("muster", appauthor=False)
