"""No deadline for generated examples: a busy machine is no bug."""

from hypothesis import settings

if settings.get_current_profile_name() == "default":
    settings.register_profile("patient", deadline=None)
    settings.load_profile("patient")
