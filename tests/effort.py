"How long tests look that make up their own input"

from hypothesis import settings


def effort(**short):
    "Settings for a short run that is the same each time; `--hypothesis-profile=long` looks for as long as it says"
    if settings.get_current_profile_name() == "long":
        return settings.get_profile("long")
    return settings(settings.get_profile("project"), derandomize=True, **short)
