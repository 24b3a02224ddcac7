"""What all tests share."""

from hypothesis import settings

# A test says whether a result is right; how long it took hangs on what else the machine does.
settings.register_profile("spinmark", deadline=None)
settings.load_profile("spinmark")
